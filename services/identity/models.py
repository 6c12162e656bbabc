"""Tables of identity."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
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
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from services.mesh import idempotency, outbox

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
    # Grows with each change of tier or status, by a trigger; and which of them payment knows.
    Column("standing_version", BigInteger, nullable=False, server_default="0"),
    Column("standing_told", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("username", name="accounts_username_key"),
    CheckConstraint("status IN ('active', 'suspended')", name="accounts_status_check"),
    CheckConstraint("kyc_tier BETWEEN 0 AND 3", name="accounts_kyc_tier_check"),
    Index("accounts_untold_idx", "id", postgresql_where=text("standing_told < standing_version")),
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
    # What the client said of itself when it signed in.
    Column("device", Text, nullable=False, server_default=""),
    # The `request_id` of the last refresh: a retry with it gets the same pair.
    Column("last_request_id", UUID(as_uuid=True)),
    Index("sessions_account_idx", "account_id", postgresql_where=text("ended_at IS NULL")),
)

# What each account has said of its devices when it signed in.
devices = Table(
    "devices",
    metadata,
    Column("account_id", UUID(as_uuid=True), ForeignKey("accounts.id"), primary_key=True),
    Column("device", Text, primary_key=True),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Text, primary_key=True),
    Column("public", LargeBinary, nullable=False),
    # The private key, sealed with a key that is derived from the master key.
    Column("sealed", LargeBinary, nullable=False),
    _moment("created_at"),
    # Published from the start, signs from here on.
    _moment("active_from"),
)

# One-time codes that were sent. A code itself is nowhere: only its MAC under a key that is not here.
challenges = Table(
    "challenges",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("purpose", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("lookup", LargeBinary, nullable=False),
    # The identifier; null as soon as the code is spent or has expired.
    Column("sealed", LargeBinary),
    Column("code_mac", LargeBinary, nullable=False),
    Column("tries", SmallInteger, nullable=False, server_default="0"),
    _moment("created_at"),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    _moment("spent_at", nullable=True),
    CheckConstraint("purpose IN ('login', 'reset')", name="challenges_purpose_check"),
    CheckConstraint("kind IN ('email', 'phone')", name="challenges_kind_check"),
    Index("challenges_lookup_idx", "lookup", "created_at"),
    Index("challenges_expires_idx", "expires_at"),
)

# The last number of the log below. Its lock makes the order of numbers the order of commits.
revocation_head = Table(
    "revocation_head",
    metadata,
    Column("only", Boolean, primary_key=True, server_default=true()),
    Column("number", BigInteger, nullable=False, server_default="0"),
    CheckConstraint('"only"', name="revocation_head_only_check"),
)

# Sessions that ended while an access token of theirs was still good.
revocations = Table(
    "revocations",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("session_id", UUID(as_uuid=True), nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
)

idempotency.declare(metadata)
outbox.declare(metadata)
