"""What identity publishes, and whether a person has signed in on a device before."""

from __future__ import annotations

from alembic import op

from services.mesh import outbox

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("sessions_device_idx", "sessions", ["account_id", "device"])
    outbox.create("identity")


def downgrade() -> None:
    outbox.drop()
    op.drop_index("sessions_device_idx", "sessions")
