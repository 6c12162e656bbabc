"""Workspaces, their members, invites and channels, and what messaging was not told yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

from services.mesh import idempotency, outbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = ("removals", "channel_members", "channels", "invites", "members", "workspaces")
# What changes in each; the rest of a row never does.
CHANGING = {
    "workspaces": "name, slug, description, owner_id, member_count, channel_count, event_count",
    "members": "role",
    "invites": "uses_left, revoked_at",
    "channels": "name, name_key, description, is_private, state, told, change_id, changed_by, lease_until",
    "channel_members": "state, told, change_id, changed_by, lease_until",
    "removals": "lease_until",
}


def _id(name: str, *, primary_key: bool = False) -> sa.Column[object]:
    return sa.Column(name, UUID(as_uuid=True), primary_key=primary_key, nullable=False)


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def _errand() -> tuple[sa.Column[object], ...]:
    return (_id("change_id"), _id("changed_by"), _moment("lease_until"))


def upgrade() -> None:
    _workspaces()
    _invites()
    _channels()
    for table in TABLES:
        op.execute(f"GRANT SELECT, INSERT, DELETE, UPDATE ({CHANGING[table]}) ON {table} TO workspace")
    idempotency.create("workspace")
    outbox.create("workspace")


def _workspaces() -> None:
    op.create_table(
        "workspaces",
        _id("id", primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("slug", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False, server_default=""),
        _id("owner_id"),
        sa.Column("member_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("channel_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("event_count", sa.BigInteger, nullable=False, server_default="0"),
        _moment("created_at"),
        sa.UniqueConstraint("slug", name="workspaces_slug_key"),
        sa.CheckConstraint("member_count >= 0", name="workspaces_member_count_check"),
        sa.CheckConstraint("channel_count >= 0", name="workspaces_channel_count_check"),
    )
    op.create_table(
        "members",
        sa.Column("workspace_id", UUID(as_uuid=True), sa.ForeignKey("workspaces.id"), primary_key=True),
        _id("user_id", primary_key=True),
        sa.Column("role", sa.SmallInteger, nullable=False),
        _moment("joined_at"),
        sa.CheckConstraint("role BETWEEN 1 AND 3", name="members_role_check"),
    )
    op.create_index(
        "members_owner_key", "members", ["workspace_id"], unique=True, postgresql_where=sa.text("role = 3")
    )
    op.create_index("members_user_idx", "members", ["user_id", "workspace_id"])
    op.create_index(
        "members_order_idx", "members", ["workspace_id", sa.text("role DESC"), "joined_at", "user_id"]
    )


def _invites() -> None:
    op.create_table(
        "invites",
        _id("id", primary_key=True),
        sa.Column("workspace_id", UUID(as_uuid=True), sa.ForeignKey("workspaces.id"), nullable=False),
        sa.Column("code_hash", sa.LargeBinary, nullable=False),
        sa.Column("uses_left", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        _id("created_by"),
        _moment("created_at"),
        sa.UniqueConstraint("code_hash", name="invites_code_hash_key"),
        sa.CheckConstraint("uses_left >= 0", name="invites_uses_left_check"),
    )
    op.create_index("invites_workspace_idx", "invites", ["workspace_id", "id"])
    op.create_index("invites_expires_idx", "invites", ["expires_at"])


def _channels() -> None:
    op.create_table(
        "channels",
        _id("id", primary_key=True),
        _id("workspace_id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("name_key", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False, server_default=""),
        sa.Column("is_private", sa.Boolean, nullable=False),
        _id("created_by"),
        _moment("created_at"),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("told", sa.Boolean, nullable=False),
        *_errand(),
        sa.CheckConstraint("state BETWEEN 1 AND 3", name="channels_state_check"),
    )
    op.create_index(
        "channels_name_key",
        "channels",
        ["workspace_id", "name_key"],
        unique=True,
        postgresql_where=sa.text("state <> 3"),
    )
    op.create_table(
        "channel_members",
        _id("channel_id", primary_key=True),
        _id("user_id", primary_key=True),
        _id("workspace_id"),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("told", sa.Boolean, nullable=False),
        *_errand(),
        sa.CheckConstraint("state BETWEEN 1 AND 3", name="channel_members_state_check"),
    )
    op.create_index("channel_members_user_idx", "channel_members", ["workspace_id", "user_id"])
    for table in ("channels", "channel_members"):
        op.create_index(f"{table}_untold_idx", table, ["lease_until"], postgresql_where=sa.text("NOT told"))
    op.create_table(
        "removals", _id("workspace_id", primary_key=True), _id("user_id", primary_key=True), *_errand()
    )
    op.create_index("removals_lease_idx", "removals", ["lease_until"])


def downgrade() -> None:
    outbox.drop()
    idempotency.drop()
    for table in TABLES:
        op.drop_table(table)
