"""Writing messages looks up less: blocks only of who has some, dropped ids only where there are any."""

from __future__ import annotations

from alembic import op

from services.messaging.migrations.sql.posting import WRITE_MESSAGES

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # For databases that were made with an earlier one.
    op.execute(WRITE_MESSAGES)


def downgrade() -> None:
    """Nothing: answers are the same with either."""
