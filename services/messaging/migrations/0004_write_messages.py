"""Messages are written as if nothing were wrong with any of them; only when something is, one by one."""

from __future__ import annotations

from alembic import op

from services.messaging.migrations.sql.posting import POST_MESSAGES, WRITE_MESSAGES

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # For databases that were made with an earlier one.
    op.execute(POST_MESSAGES)
    op.execute(WRITE_MESSAGES)
    op.execute("REVOKE ALL ON FUNCTION write_messages FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION write_messages TO messaging")


def downgrade() -> None:
    op.execute("DROP FUNCTION write_messages")
