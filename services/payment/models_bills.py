"""Tables of bills, which no posting refers to."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import UUID


def declare(metadata: MetaData) -> tuple[Table, Table]:
    """The tables, for payment's models."""
    bills = Table(
        "bills",
        metadata,
        Column("id", UUID(as_uuid=True), primary_key=True),
        # Of identity, which has its own database: no foreign key.
        Column("user_id", UUID(as_uuid=True), nullable=False),
        Column("amount", BigInteger, nullable=False),
        Column("currency", Text, nullable=False),
        # Sealed with the person's key; null when empty.
        Column("description", LargeBinary),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        # Not null: it is paid.
        Column("paid_at", DateTime(timezone=True)),
        CheckConstraint("amount > 0", name="bills_amount_check"),
    )
    Index("bills_user_idx", bills.c.user_id, bills.c.id)
    Index("bills_pending_idx", bills.c.user_id, postgresql_where=text("paid_at IS NULL"))
    return bills, _accounts(metadata)


def _accounts(metadata: MetaData) -> Table:
    """What each person's bills come to: one row, which whoever changes their bills has locked."""
    counts = ("transactions", "amount", "paid", "unpaid", "version")
    return Table(
        "bill_accounts",
        metadata,
        Column("user_id", UUID(as_uuid=True), primary_key=True),
        *(Column(name, BigInteger, nullable=False, server_default="0") for name in counts),
        CheckConstraint("unpaid BETWEEN 0 AND amount", name="bill_accounts_unpaid_check"),
        CheckConstraint("paid BETWEEN 0 AND transactions", name="bill_accounts_paid_check"),
    )
