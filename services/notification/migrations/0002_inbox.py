"""What notification has consumed."""

from __future__ import annotations

from services.mesh import inbox

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    inbox.create("notification")


def downgrade() -> None:
    inbox.drop()
