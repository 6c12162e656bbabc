"""What was answered to a `request_id`; that of an order stands with its delivery."""

from __future__ import annotations

from services.mesh import idempotency

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    idempotency.create("notification")


def downgrade() -> None:
    idempotency.drop()
