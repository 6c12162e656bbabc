"""Tables of workspace."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

from services.mesh import idempotency, outbox

metadata = MetaData()


def _id(name: str, *, primary_key: bool = False) -> Column[object]:
    return Column(name, UUID(as_uuid=True), primary_key=primary_key, nullable=False)


def _moment(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _errand() -> tuple[Column[object], ...]:
    """What messaging has to be told: `change_id` is the request_id of the call; who tells has the lease."""
    return (_id("change_id"), _id("changed_by"), _moment("lease_until"))


workspaces = Table(
    "workspaces",
    metadata,
    _id("id", primary_key=True),
    Column("name", Text, nullable=False),
    Column("slug", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    # Of identity, which has its own database: no foreign key, here and below.
    _id("owner_id"),
    # Counted under the lock of this row.
    Column("member_count", Integer, nullable=False, server_default="0"),
    Column("channel_count", Integer, nullable=False, server_default="0"),
    # How many events were published of it.
    Column("event_count", BigInteger, nullable=False, server_default="0"),
    _moment("created_at"),
    UniqueConstraint("slug", name="workspaces_slug_key"),
    CheckConstraint("member_count >= 0", name="workspaces_member_count_check"),
    CheckConstraint("channel_count >= 0", name="workspaces_channel_count_check"),
)

members = Table(
    "members",
    metadata,
    Column("workspace_id", UUID(as_uuid=True), ForeignKey("workspaces.id"), primary_key=True),
    _id("user_id", primary_key=True),
    # 1 member, 2 admin, 3 owner.
    Column("role", SmallInteger, nullable=False),
    _moment("joined_at"),
    CheckConstraint("role BETWEEN 1 AND 3", name="members_role_check"),
)
Index("members_owner_key", members.c.workspace_id, unique=True, postgresql_where=text("role = 3"))
Index("members_user_idx", members.c.user_id, members.c.workspace_id)
Index(
    "members_order_idx", members.c.workspace_id, members.c.role.desc(), members.c.joined_at, members.c.user_id
)

invites = Table(
    "invites",
    metadata,
    _id("id", primary_key=True),
    Column("workspace_id", UUID(as_uuid=True), ForeignKey("workspaces.id"), nullable=False),
    # Keyed hash of the code, which is nowhere.
    Column("code_hash", LargeBinary, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
    _id("created_by"),
    _moment("created_at"),
    UniqueConstraint("code_hash", name="invites_code_hash_key"),
    CheckConstraint("uses_left >= 0", name="invites_uses_left_check"),
)
Index("invites_workspace_idx", invites.c.workspace_id, invites.c.id)
Index("invites_expires_idx", invites.c.expires_at)

# A channel outlives its workspace until messaging has closed it: no foreign key.
channels = Table(
    "channels",
    metadata,
    _id("id", primary_key=True),
    _id("workspace_id"),
    Column("name", Text, nullable=False),
    # The name without case and form, by which it is unique and listed.
    Column("name_key", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("is_private", Boolean, nullable=False),
    _id("created_by"),
    _moment("created_at"),
    # 1 pending, 2 active, 3 closing.
    Column("state", SmallInteger, nullable=False),
    # Whether messaging knows of all this.
    Column("told", Boolean, nullable=False),
    *_errand(),
    CheckConstraint("state BETWEEN 1 AND 3", name="channels_state_check"),
)
Index(
    "channels_name_key",
    channels.c.workspace_id,
    channels.c.name_key,
    unique=True,
    postgresql_where=text("state <> 3"),
)
Index("channels_untold_idx", channels.c.lease_until, postgresql_where=text("NOT told"))

channel_members = Table(
    "channel_members",
    metadata,
    _id("channel_id", primary_key=True),
    _id("user_id", primary_key=True),
    _id("workspace_id"),
    # 1 adding, 2 in it, 3 removing.
    Column("state", SmallInteger, nullable=False),
    Column("told", Boolean, nullable=False),
    *_errand(),
    CheckConstraint("state BETWEEN 1 AND 3", name="channel_members_state_check"),
)
Index("channel_members_user_idx", channel_members.c.workspace_id, channel_members.c.user_id)
Index("channel_members_untold_idx", channel_members.c.lease_until, postgresql_where=text("NOT told"))

# Who has left a workspace, until messaging has taken them out of its channels.
removals = Table(
    "removals",
    metadata,
    _id("workspace_id", primary_key=True),
    _id("user_id", primary_key=True),
    *_errand(),
)
Index("removals_lease_idx", removals.c.lease_until)

idempotency.declare(metadata)
outbox.declare(metadata)
