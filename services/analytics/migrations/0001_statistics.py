"""Statistics of bills, what they are folded from, and what rebuilds them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

from services.mesh import inbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _only() -> sa.Column[bool]:
    return sa.Column("only", sa.Boolean, primary_key=True, server_default=sa.true())


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("user_id", UUID(as_uuid=True), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True),
        *(_count(name) for name in ("transactions", "amount", "paid")),
    )
    op.create_table(
        "user_stats",
        sa.Column("user_id", UUID(as_uuid=True), primary_key=True),
        *(_count(name) for name in ("floor", "transactions", "amount", "paid", "events")),
    )
    op.create_table(
        "totals",
        _only(),
        *(_count(name) for name in ("transactions", "amount", "paid", "events", "users")),
        sa.CheckConstraint('"only"', name="totals_only_check"),
    )
    op.create_table(
        "rebuilds",
        _only(),
        sa.Column("wanted_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("done_for", sa.DateTime(timezone=True)),
        sa.CheckConstraint('"only"', name="rebuilds_only_check"),
    )
    op.create_table(
        "snapshots",
        sa.Column("run", UUID(as_uuid=True), primary_key=True),
        sa.Column("user_id", UUID(as_uuid=True), primary_key=True),
        *(_count(name) for name in ("transactions", "amount", "paid", "events")),
    )
    op.execute("INSERT INTO totals DEFAULT VALUES")
    # What an event added is never changed.
    op.execute("GRANT SELECT, INSERT ON facts TO analytics")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON user_stats TO analytics")
    op.execute("GRANT SELECT, INSERT, DELETE ON snapshots TO analytics")
    op.execute("GRANT SELECT, UPDATE (transactions, amount, paid, events, users) ON totals TO analytics")
    op.execute("GRANT SELECT, UPDATE (done_for) ON rebuilds TO analytics")
    inbox.create("analytics")


def downgrade() -> None:
    inbox.drop()
    for table in ("snapshots", "rebuilds", "totals", "user_stats", "facts"):
        op.drop_table(table)
