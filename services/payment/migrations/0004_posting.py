"""The posting function and its trigger as they now are, for ledgers that were made with earlier ones."""

from __future__ import annotations

from alembic import op

from services.payment.migrations.sql import ledger, posting

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(f"DROP FUNCTION IF EXISTS {posting.EARLIER}")
    op.execute(ledger.POST_LEGS)
    op.execute(posting.POST_BATCH)
    op.execute(f"REVOKE ALL ON FUNCTION {posting.SIGNATURE} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {posting.SIGNATURE} TO payment")


def downgrade() -> None:
    """Nothing: the first migration makes the same functions."""
