"""Devices that each account has signed in on: a row for each makes one of two sign-ins at once the first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "devices",
        sa.Column("account_id", UUID(as_uuid=True), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("device", sa.Text, primary_key=True),
    )
    op.execute("INSERT INTO devices SELECT DISTINCT account_id, device FROM sessions")
    op.execute("GRANT SELECT, INSERT ON devices TO identity")
    op.drop_index("sessions_device_idx", "sessions")


def downgrade() -> None:
    op.create_index("sessions_device_idx", "sessions", ["account_id", "device"])
    op.drop_table("devices")
