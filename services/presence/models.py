"""Tables of presence: what people want to show. How they are stands in Redis."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, DateTime, Index, MetaData, Table, func
from sqlalchemy.dialects.postgresql import UUID

from services.mesh import idempotency

metadata = MetaData()

# Who never changed anything has no row.
preferences = Table(
    "preferences",
    metadata,
    # Of identity, which has its own database: no foreign key.
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    Column("last_seen_hidden", Boolean, nullable=False, server_default="false"),
    Column("invisible", Boolean, nullable=False, server_default="false"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
)
# Every replica asks all the time what has just changed.
Index("preferences_updated_idx", preferences.c.updated_at)

idempotency.declare(metadata)
