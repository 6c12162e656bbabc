"""Bills, and what each person's come to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COUNTS = ("transactions", "amount", "paid", "unpaid", "version")


def upgrade() -> None:
    op.create_table(
        "bills",
        sa.Column("id", UUID(as_uuid=True), primary_key=True),
        sa.Column("user_id", UUID(as_uuid=True), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("description", sa.LargeBinary),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("paid_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("amount > 0", name="bills_amount_check"),
    )
    op.create_index("bills_user_idx", "bills", ["user_id", "id"])
    op.create_index("bills_pending_idx", "bills", ["user_id"], postgresql_where=sa.text("paid_at IS NULL"))
    op.create_table(
        "bill_accounts",
        sa.Column("user_id", UUID(as_uuid=True), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in COUNTS),
        sa.CheckConstraint("unpaid BETWEEN 0 AND amount", name="bill_accounts_unpaid_check"),
        sa.CheckConstraint("paid BETWEEN 0 AND transactions", name="bill_accounts_paid_check"),
    )
    # A bill is never deleted, and nothing of it changes but that it is paid.
    op.execute("GRANT SELECT, INSERT, UPDATE (paid_at) ON bills TO payment")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ({', '.join(COUNTS)}) ON bill_accounts TO payment")


def downgrade() -> None:
    for table in ("bill_accounts", "bills"):
        op.drop_table(table)
