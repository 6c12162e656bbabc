"""Tables of identity."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID

metadata = MetaData()


def _moment(name: str, *, nullable: bool = False) -> Column[object]:
    default = None if nullable else func.now()
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default)


accounts = Table(
    "accounts",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("username", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("avatar_url", Text, nullable=False, server_default=""),
    Column("status", Text, nullable=False, server_default="active"),
    Column("kyc_tier", SmallInteger, nullable=False, server_default="0"),
    Column("roles", ARRAY(Text), nullable=False, server_default="{}"),
    # argon2id or, when it came from an older system, bcrypt. Null: signs in by code only.
    Column("password_hash", Text),
    _moment("created_at"),
    _moment("updated_at"),
    UniqueConstraint("username", name="accounts_username_key"),
    CheckConstraint("status IN ('active', 'suspended')", name="accounts_status_check"),
    CheckConstraint("kyc_tier BETWEEN 0 AND 3", name="accounts_kyc_tier_check"),
)

# One data key a person, wrapped by the master key. Deleting the row makes what it sealed unreadable.
person_keys = Table(
    "person_keys",
    metadata,
    Column("account_id", UUID(as_uuid=True), ForeignKey("accounts.id"), primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)

# E-mail addresses and phone numbers. An unproven one reserves nothing; a proven one belongs to one account.
identifiers = Table(
    "identifiers",
    metadata,
    Column("account_id", UUID(as_uuid=True), ForeignKey("accounts.id"), primary_key=True),
    Column("kind", Text, primary_key=True),
    # HMAC of the normal form, and the id of the key that made it.
    Column("lookup", LargeBinary, nullable=False),
    Column("lookup_key_id", SmallInteger, nullable=False),
    # The value as given, sealed with the person's key.
    Column("sealed", LargeBinary, nullable=False),
    _moment("created_at"),
    _moment("proven_at", nullable=True),
    CheckConstraint("kind IN ('email', 'phone')", name="identifiers_kind_check"),
    Index("identifiers_lookup_idx", "kind", "lookup"),
    Index(
        "identifiers_proven_key",
        "kind",
        "lookup",
        unique=True,
        postgresql_where=text("proven_at IS NOT NULL"),
    ),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("account_id", UUID(as_uuid=True), ForeignKey("accounts.id"), nullable=False),
    Column("generation", Integer, nullable=False, server_default="1"),
    Column("salt", LargeBinary, nullable=False),
    _moment("created_at"),
    _moment("rotated_at"),
    _moment("refresh_expires_at"),
    _moment("ended_at", nullable=True),
    Index("sessions_account_idx", "account_id", postgresql_where=text("ended_at IS NULL")),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Text, primary_key=True),
    Column("public", LargeBinary, nullable=False),
    # The private key, sealed with a key that is derived from the master key.
    Column("sealed", LargeBinary, nullable=False),
    _moment("created_at"),
)
