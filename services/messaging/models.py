"""Tables of messaging. What each is for stands in README.md."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from services.mesh import idempotency, inbox, outbox

metadata = sa.MetaData()


def _id(name: str, *, primary_key: bool = False, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, UUID(as_uuid=True), primary_key=primary_key, nullable=null)


def _moment(name: str, *, null: bool = False) -> sa.Column[object]:
    default = None if null else sa.func.now()
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null, server_default=default)


def _number(name: str, default: int | None = None, *, null: bool = False) -> sa.Column[object]:
    shown = None if default is None else str(default)
    return sa.Column(name, sa.BigInteger, nullable=null, server_default=shown)


dialogs = sa.Table(
    "dialogs",
    metadata,
    _id("id", primary_key=True),
    # 1 direct, 2 group, 3 channel.
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("title", sa.Text, nullable=False, server_default=""),
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    _id("workspace_id", null=True),
    sa.Column("is_private", sa.Boolean, nullable=False, server_default=sa.false()),
    # Both accounts of a direct dialog, the lower one first, 16 bytes each.
    sa.Column("direct_key", sa.LargeBinary),
    _id("created_by"),
    _moment("created_at"),
    # Number of the newest event; the log is `messages` and `changes` together.
    _number("seq", 0),
    # How many messages there have been.
    _number("message_no", 0),
    # Below this number events were dropped by age, and messages up to `dropped_no`.
    _number("first_seq", 1),
    _number("dropped_no", 0),
    sa.Column("member_count", sa.Integer, nullable=False, server_default="0"),
    # Stamp of the newest event.
    _moment("active_at"),
    _moment("closed_at", null=True),
    sa.UniqueConstraint("direct_key", name="dialogs_direct_key"),
)
sa.Index(
    "dialogs_workspace_idx", dialogs.c.workspace_id, postgresql_where=sa.text("workspace_id IS NOT NULL")
)

members = sa.Table(
    "members",
    metadata,
    _id("dialog_id"),
    _id("user_id"),
    # 1 member, 2 admin, 3 owner.
    sa.Column("role", sa.SmallInteger, nullable=False),
    # Events from this number on are for this member.
    _number("joined_seq"),
    _moment("joined_at"),
    # Number of the event with which they left; null for who is in it.
    _number("left_seq", null=True),
    # The last message that was read: its number among events, and among messages.
    _number("read_seq", 0),
    _number("read_no", 0),
    sa.Column("muted", sa.Boolean, nullable=False, server_default=sa.false()),
    _id("inviter"),
    sa.PrimaryKeyConstraint("dialog_id", "user_id", name="members_pkey"),
    sa.Index("members_user_idx", "user_id", postgresql_where=sa.text("left_seq IS NULL")),
    sa.Index(
        "members_rank_idx",
        "dialog_id",
        sa.text("role DESC"),
        "joined_at",
        "user_id",
        postgresql_where=sa.text("left_seq IS NULL"),
    ),
)

messages = sa.Table(
    "messages",
    metadata,
    _id("dialog_id"),
    _number("seq"),
    _number("message_no"),
    _id("sender_id"),
    sa.Column("client_message_id", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("attributes", JSONB),
    _number("reply_to", null=True),
    # The message whose thread it stands in.
    _number("thread_seq", null=True),
    sa.Column("reply_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("file_ids", ARRAY(UUID(as_uuid=True))),
    sa.Column("mentions", ARRAY(UUID(as_uuid=True))),
    # Keyed hash of what the sender sent: tells a repeat from another message under the same id.
    sa.Column("request_hash", sa.LargeBinary, nullable=False),
    _moment("created_at"),
    _moment("edited_at", null=True),
    _moment("deleted_at", null=True),
    sa.PrimaryKeyConstraint("dialog_id", "seq", name="messages_pkey"),
    sa.UniqueConstraint("dialog_id", "sender_id", "client_message_id", name="messages_client_key"),
    sa.Index(
        "messages_thread_idx",
        "dialog_id",
        "thread_seq",
        "seq",
        postgresql_where=sa.text("thread_seq IS NOT NULL"),
    ),
    # What unread messages are counted with: deleted ones, and notices in one's own name.
    sa.Index(
        "messages_deleted_idx",
        "dialog_id",
        "message_no",
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    ),
    sa.Index(
        "messages_notice_idx",
        "dialog_id",
        "sender_id",
        "message_no",
        postgresql_where=sa.text("type <> 'text'"),
    ),
)

# Every event that is not a new message.
changes = sa.Table(
    "changes",
    metadata,
    _id("dialog_id"),
    _number("seq"),
    _id("actor_id"),
    # Number of the field of Event.change that it has.
    sa.Column("kind", sa.SmallInteger, nullable=False),
    # The message that it is about. What an edited message says now is read there, never kept here: a text
    # that is deleted must be gone.
    _number("message_seq", null=True),
    # A serialized Event without dialog and number, and without the content of an edited message.
    sa.Column("payload", sa.LargeBinary, nullable=False),
    _moment("created_at"),
    sa.PrimaryKeyConstraint("dialog_id", "seq", name="changes_pkey"),
)

edits = sa.Table(
    "edits",
    metadata,
    _id("dialog_id"),
    _number("seq"),
    sa.Column("edit_no", sa.Integer, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    _moment("replaced_at"),
    sa.PrimaryKeyConstraint("dialog_id", "seq", "edit_no", name="edits_pkey"),
)

reactions = sa.Table(
    "reactions",
    metadata,
    _id("dialog_id"),
    _number("seq"),
    _id("user_id"),
    sa.Column("emoji", sa.Text, nullable=False),
    _moment("created_at"),
    sa.PrimaryKeyConstraint("dialog_id", "seq", "emoji", "user_id", name="reactions_pkey"),
)

mentions = sa.Table(
    "mentions",
    metadata,
    _id("user_id"),
    _id("dialog_id"),
    _number("seq"),
    _number("message_no"),
    sa.PrimaryKeyConstraint("user_id", "dialog_id", "seq", name="mentions_pkey"),
    # Those of one message, and of what is dropped by age.
    sa.Index("mentions_message_idx", "dialog_id", "seq"),
)

blocks = sa.Table(
    "blocks",
    metadata,
    _id("blocker"),
    _id("blocked"),
    _moment("created_at"),
    sa.PrimaryKeyConstraint("blocker", "blocked", name="blocks_pkey"),
    sa.Index("blocks_blocked_idx", "blocked"),
)

reports = sa.Table(
    "reports",
    metadata,
    _id("id", primary_key=True),
    _id("reporter_id"),
    _id("dialog_id"),
    _number("seq"),
    _id("sender_id"),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("comment", sa.Text, nullable=False, server_default=""),
    # What the message said at that time.
    sa.Column("text", sa.Text, nullable=False),
    _moment("created_at"),
    sa.UniqueConstraint("reporter_id", "dialog_id", "seq", name="reports_message_key"),
)

# What a device has worked through.
devices = sa.Table(
    "devices",
    metadata,
    _id("user_id"),
    sa.Column("device_id", sa.Text, nullable=False),
    sa.Column("resume", sa.LargeBinary, nullable=False),
    _number("stamp"),
    _moment("updated_at"),
    sa.PrimaryKeyConstraint("user_id", "device_id", name="devices_pkey"),
)

# Ids of messages that were dropped by age: an id is never free again.
spent_ids = sa.Table(
    "spent_ids",
    metadata,
    _id("dialog_id"),
    _id("sender_id"),
    sa.Column("client_message_id", sa.Text, nullable=False),
    _number("seq"),
    _moment("created_at"),
    _moment("dropped_at"),
    sa.PrimaryKeyConstraint("dialog_id", "sender_id", "client_message_id", name="spent_ids_pkey"),
)

# Up to where a dialog's log was published for other contexts.
relayed = sa.Table("relayed", metadata, _id("dialog_id", primary_key=True), _number("seq"))

idempotency.declare(metadata)
inbox.declare(metadata)
outbox.declare_head(metadata)
