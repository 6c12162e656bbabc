"""When each fact was counted, and a way to forget those that count for nothing any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The running role deletes facts only by this: what is above a person's floor stays.
_FORGET = """
CREATE FUNCTION forget_facts(p_people uuid[], p_before timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DELETE FROM facts f USING user_stats s
    WHERE f.user_id = ANY (p_people) AND s.user_id = f.user_id AND f.version <= s.floor
        AND f.counted_at < p_before
$$
"""
_NAME = "forget_facts(uuid[], timestamptz)"


def upgrade() -> None:
    counted_at = sa.Column(
        "counted_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
    )
    op.add_column("facts", counted_at)
    op.execute(_FORGET)
    op.execute(f"REVOKE ALL ON FUNCTION {_NAME} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {_NAME} TO analytics")


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {_NAME}")
    op.drop_column("facts", "counted_at")
