"""Tables of top-ups."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

STATUSES = "'pending', 'processing', 'completed', 'review', 'expired', 'returned'"
OPEN = "status IN ('pending', 'processing')"


def declare(metadata: MetaData) -> tuple[Table, Table, Table]:
    """The tables, for payment's models."""
    return _top_ups(metadata), _payments(metadata), _resolutions(metadata)


def _top_ups(metadata: MetaData) -> Table:
    table = Table(
        "top_ups",
        metadata,
        Column("id", UUID(as_uuid=True), primary_key=True),
        Column("user_id", UUID(as_uuid=True), nullable=False),
        Column("wallet_id", UUID(as_uuid=True), nullable=False),
        Column("provider", Text, nullable=False),
        Column("method", Text, nullable=False),
        Column("amount", BigInteger, nullable=False),
        Column("currency", Text, nullable=False),
        Column("reference", Text, nullable=False),
        Column("qr_payload", Text, nullable=False),
        Column("expires_at", DateTime(timezone=True), nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("status", Text, nullable=False, server_default="pending"),
        # The provider's id of the payment that it may take, or has taken.
        Column("payment_id", Text, nullable=False, server_default=""),
        Column("processing_since", DateTime(timezone=True)),
        Column("settled_at", DateTime(timezone=True)),
        Column("paid_amount", BigInteger, nullable=False, server_default="0"),
        Column("review_reason", Text, nullable=False, server_default=""),
        # When the sweeper looks at it; while it does, this is the end of its lease.
        Column("look_at", DateTime(timezone=True), nullable=False),
        CheckConstraint("amount > 0", name="top_ups_amount_check"),
        CheckConstraint(f"status IN ({STATUSES})", name="top_ups_status_check"),
        CheckConstraint(f"(settled_at IS NULL) = ({OPEN})", name="top_ups_settled_check"),
        CheckConstraint("(status = 'review') = (review_reason <> '')", name="top_ups_review_check"),
    )
    Index("top_ups_user_idx", table.c.user_id, table.c.id)
    Index("top_ups_due_idx", table.c.look_at, postgresql_where=text(OPEN))
    return table


def _payments(metadata: MetaData) -> Table:
    """Money that came, each by the provider's own id, for ever: what counts it once."""
    return Table(
        "provider_payments",
        metadata,
        Column("provider", Text, nullable=False),
        Column("payment_id", Text, nullable=False),
        # Null: for no top-up of ours.
        Column("top_up_id", UUID(as_uuid=True)),
        Column("method", Text, nullable=False),
        Column("reference", Text, nullable=False),
        Column("amount", BigInteger, nullable=False),
        Column("currency", Text, nullable=False),
        # When the bank had it, and when we heard of it.
        Column("paid_at", DateTime(timezone=True), nullable=False),
        Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
        # Empty: it was credited.
        Column("held_because", Text, nullable=False, server_default=""),
        # Of the ledger: into the wallet, or into the account for review.
        Column("transfer_id", UUID(as_uuid=True), nullable=False),
        PrimaryKeyConstraint("provider", "payment_id", name="provider_payments_pkey"),
        CheckConstraint("amount > 0", name="provider_payments_amount_check"),
        Index("provider_payments_held_idx", "received_at", postgresql_where=text("held_because <> ''")),
    )


def _resolutions(metadata: MetaData) -> Table:
    """What an operator did with money that was held: once for each payment."""
    return Table(
        "resolutions",
        metadata,
        Column("provider", Text, nullable=False),
        Column("payment_id", Text, nullable=False),
        # credit, return
        Column("decision", Text, nullable=False),
        # Null: it went back.
        Column("wallet_id", UUID(as_uuid=True)),
        Column("transfer_id", UUID(as_uuid=True), nullable=False),
        Column("resolved_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
        PrimaryKeyConstraint("provider", "payment_id", name="resolutions_pkey"),
        CheckConstraint("(decision = 'credit') = (wallet_id IS NOT NULL)", name="resolutions_decision_check"),
    )
