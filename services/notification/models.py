"""Tables of notification."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
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
from sqlalchemy.dialects.postgresql import UUID

from services.mesh import idempotency, inbox

metadata = MetaData()


def _moment(name: str, *, nullable: bool = False) -> Column[object]:
    default = None if nullable else func.now()
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default)


deliveries = Table(
    "deliveries",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("caller", Text, nullable=False),
    Column("request_id", UUID(as_uuid=True), nullable=False),
    # HMAC of the whole order, so that the same request_id with another one is refused.
    Column("input_hash", LargeBinary, nullable=False),
    Column("channel", Text, nullable=False),
    Column("template", Text, nullable=False),
    # HMAC of the address in normal form, and the id of the key that made it.
    Column("recipient", LargeBinary, nullable=False),
    Column("recipient_key_id", SmallInteger, nullable=False),
    # The letter. Null once a provider has taken it.
    Column("sealed", LargeBinary),
    Column("status", Text, nullable=False),
    # How often it was taken to be sent. It never goes back, so it tells a late worker from the present one.
    Column("attempts", Integer, nullable=False, server_default="0"),
    # With this many attempts it is given up; a replay raises it.
    Column("attempts_allowed", Integer, nullable=False),
    # Why the last try failed, in words of ours: a provider's may hold the address.
    Column("failure", Text, nullable=False, server_default=""),
    # When to send it; while somebody does, when they are given up.
    _moment("due_at"),
    # From then on it is worth nothing. Null: never.
    _moment("expires_at", nullable=True),
    _moment("created_at"),
    _moment("settled_at", nullable=True),
    UniqueConstraint("caller", "request_id", name="deliveries_request_key"),
    CheckConstraint("channel IN ('sms', 'email')", name="deliveries_channel_check"),
    CheckConstraint("status IN ('pending', 'sent', 'dead')", name="deliveries_status_check"),
    CheckConstraint("status = 'sent' OR sealed IS NOT NULL", name="deliveries_sealed_check"),
    Index("deliveries_due_idx", "due_at", postgresql_where=text("status = 'pending'")),
    Index("deliveries_recipient_idx", "recipient", "created_at"),
    Index("deliveries_created_idx", "created_at"),
)

idempotency.declare(metadata)
inbox.declare(metadata)
