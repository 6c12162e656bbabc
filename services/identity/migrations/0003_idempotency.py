"""What was answered to a `request_id`."""

from __future__ import annotations

from services.mesh import idempotency

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    idempotency.create("identity")


def downgrade() -> None:
    idempotency.drop()
