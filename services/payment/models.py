"""Tables of payment. What may be written in them, and by whom, stands in the migrations."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
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
from services.payment import models_bills

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
idempotency.declare(metadata)
outbox.declare(metadata)
