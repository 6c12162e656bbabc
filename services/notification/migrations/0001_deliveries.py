"""Deliveries: what was taken to be sent, and how far each is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", UUID(as_uuid=True), primary_key=True),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("request_id", UUID(as_uuid=True), nullable=False),
        sa.Column("input_hash", sa.LargeBinary, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("template", sa.Text, nullable=False),
        sa.Column("recipient", sa.LargeBinary, nullable=False),
        sa.Column("recipient_key_id", sa.SmallInteger, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("attempts_allowed", sa.Integer, nullable=False),
        sa.Column("failure", sa.Text, nullable=False, server_default=""),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("settled_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("caller", "request_id", name="deliveries_request_key"),
        sa.CheckConstraint("channel IN ('sms', 'email')", name="deliveries_channel_check"),
        sa.CheckConstraint("status IN ('pending', 'sent', 'dead')", name="deliveries_status_check"),
        sa.CheckConstraint("status = 'sent' OR sealed IS NOT NULL", name="deliveries_sealed_check"),
    )
    op.create_index(
        "deliveries_due_idx", "deliveries", ["due_at"], postgresql_where=sa.text("status = 'pending'")
    )
    op.create_index("deliveries_recipient_idx", "deliveries", ["recipient", "created_at"])
    op.create_index("deliveries_created_idx", "deliveries", ["created_at"])
    # What the running role may do; whom a message was for and who ordered it never changes.
    op.execute("GRANT SELECT, INSERT, DELETE ON deliveries TO notification")
    op.execute(
        "GRANT UPDATE (sealed, status, attempts, attempts_allowed, failure, due_at, settled_at) "
        "ON deliveries TO notification"
    )


def downgrade() -> None:
    op.drop_table("deliveries")
