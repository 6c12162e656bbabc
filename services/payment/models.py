"""Tables of payment. What may be written in them, and by whom, stands in the migrations."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

from services.mesh import idempotency, outbox
from services.payment import models_bills, models_topups

metadata = MetaData()


def _id(name: str, **more: bool) -> Column[object]:
    return Column(name, UUID(as_uuid=True), **more)  # type: ignore[arg-type]


def _moment(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


# Wallets of people and accounts of our own. Only the ledger's trigger changes balance, held, seq and what was
# spent today.
accounts = Table(
    "accounts",
    metadata,
    _id("id", primary_key=True),
    # wallet, clearing, fees, review
    Column("kind", Text, nullable=False),
    # Whose wallet it is; of identity, which has its own database.
    _id("owner", nullable=True),
    # Of our own: the rail that it clears, or what it is for.
    Column("name", Text, nullable=False, server_default=""),
    Column("stripe", SmallInteger, nullable=False, server_default="0"),
    Column("currency", Text, nullable=False),
    Column("may_go_negative", Boolean, nullable=False),
    Column("balance", BigInteger, nullable=False, server_default="0"),
    Column("held", BigInteger, nullable=False, server_default="0"),
    Column("seq", BigInteger, nullable=False, server_default="0"),
    Column("kyc_tier", SmallInteger, nullable=False, server_default="0"),
    Column("suspended", Boolean, nullable=False, server_default="false"),
    Column("time_zone", Text, nullable=False, server_default="UTC"),
    Column("day", Date, nullable=False, server_default=text("'2000-01-01'")),
    Column("spent_today", BigInteger, nullable=False, server_default="0"),
    _moment("created_at"),
    CheckConstraint("kind IN ('wallet', 'clearing', 'fees', 'review')", name="accounts_kind_check"),
    CheckConstraint("(kind = 'wallet') = (owner IS NOT NULL)", name="accounts_owner_check"),
    CheckConstraint("kind <> 'wallet' OR NOT may_go_negative", name="accounts_wallet_check"),
    CheckConstraint("may_go_negative OR balance - held >= 0", name="accounts_funds_check"),
    CheckConstraint("held >= 0", name="accounts_held_check"),
    CheckConstraint("kyc_tier BETWEEN 0 AND 3", name="accounts_kyc_tier_check"),
    UniqueConstraint("owner", "currency", name="accounts_owner_key"),
    Index(
        "accounts_own_key",
        "kind",
        "name",
        "currency",
        "stripe",
        unique=True,
        postgresql_where=text("owner IS NULL"),
    ),
)

# Two legs by construction. What belongs together, such as a payment and its fee, has one transaction_id.
transfers = Table(
    "transfers",
    metadata,
    _id("id", primary_key=True),
    _id("transaction_id", nullable=False),
    # send, fee, topup, capture, refund, transfer, review
    Column("kind", Text, nullable=False),
    _id("debit_account", nullable=False),
    Column("debit_seq", BigInteger, nullable=False),
    _id("credit_account", nullable=False),
    Column("credit_seq", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    # The hold, the refunded transaction, or whatever it was made for.
    _id("refers_to", nullable=True),
    Column("caller", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("amount > 0", name="transfers_amount_check"),
    CheckConstraint("debit_account <> credit_account", name="transfers_legs_check"),
    Index("transfers_linked_idx", "transaction_id", postgresql_where=text("transaction_id <> id")),
    Index("transfers_refers_idx", "refers_to", postgresql_where=text("refers_to IS NOT NULL")),
)

# Derived from transfers by a trigger; nobody else writes here.
postings = Table(
    "postings",
    metadata,
    _id("account_id", primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    _id("transfer_id", nullable=False),
    # Above zero for what came in, below it for what went out.
    Column("amount", BigInteger, nullable=False),
    Column("balance_after", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# Which request made which transaction, and what it was answered, for ever.
requests = Table(
    "requests",
    metadata,
    # Keyed hash of caller, method and request_id.
    _id("key", primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    _id("transaction_id", nullable=False),
    Column("balance_after", BigInteger, nullable=False),
    Column("fee", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# Texts of people, sealed with the key of `person_id`.
notes = Table(
    "notes",
    metadata,
    _id("transaction_id", primary_key=True),
    _id("person_id", nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

# What happened to something that is no single transfer; append-only.
trail = Table(
    "trail",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _id("subject_id", nullable=False),
    Column("event", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("amount", BigInteger),
    _id("transaction_id", nullable=True),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Index("trail_subject_idx", "subject_id", "id"),
)

# Money that is reserved. `captured` follows from capture transfers, and what is held from all of it.
holds = Table(
    "holds",
    metadata,
    _id("id", primary_key=True),
    # Both are null in the tombstone of a hold that was voided before it came.
    _id("account_id", nullable=True),
    _id("payee_account", nullable=True),
    Column("amount", BigInteger, nullable=False),
    Column("captured", BigInteger, nullable=False, server_default="0"),
    Column("currency", Text, nullable=False, server_default=""),
    # pending, captured, voided, expired
    Column("status", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("closed_at", DateTime(timezone=True)),
    Index("holds_account_idx", "account_id", "id"),
    Index("holds_payee_idx", "payee_account", "id"),
    Index("holds_expires_idx", "expires_at", postgresql_where=text("status = 'pending'")),
)

# What identity says of people. A person's wallets have it, too: a send asks nobody else.
standings = Table(
    "standings",
    metadata,
    _id("user_id", primary_key=True),
    Column("kyc_tier", SmallInteger, nullable=False),
    Column("suspended", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("kyc_tier BETWEEN 0 AND 3", name="standings_kyc_tier_check"),
)

# Each person's data key, wrapped by the master key. Without its row what it sealed is gone for good.
person_keys = Table(
    "person_keys",
    metadata,
    _id("user_id", primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)

models_bills.declare(metadata)
top_ups, provider_payments, resolutions = models_topups.declare(metadata)
idempotency.declare(metadata)
outbox.declare(metadata)
