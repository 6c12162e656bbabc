"""Tables of analytics."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, DateTime, MetaData, Table, func, true
from sqlalchemy.dialects.postgresql import UUID

from services.mesh import inbox

metadata = MetaData()


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


# One row for each event above its person's floor, and for some time below it: no event adds twice, and what
# came after a snapshot is known.
facts = Table(
    "facts",
    metadata,
    # Of identity, which has its own database: no foreign key.
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    # Counts the events of the person's bills.
    Column("version", BigInteger, primary_key=True),
    _count("transactions"),
    _count("amount"),
    _count("paid"),
    Column("counted_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

user_stats = Table(
    "user_stats",
    metadata,
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    # Events up to this one came with a snapshot, or were counted long ago: they add nothing any more.
    _count("floor"),
    _count("transactions"),
    _count("amount"),
    _count("paid"),
    _count("events"),
)

# The sums of user_stats, in one row.
totals = Table(
    "totals",
    metadata,
    Column("only", Boolean, primary_key=True, server_default=true()),
    _count("transactions"),
    _count("amount"),
    _count("paid"),
    _count("events"),
    _count("users"),
    CheckConstraint('"only"', name="totals_only_check"),
)

# What the operator wants, and what was done of it, in one row.
rebuilds = Table(
    "rebuilds",
    metadata,
    Column("only", Boolean, primary_key=True, server_default=true()),
    Column("wanted_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # That which was wanted then is done.
    Column("done_for", DateTime(timezone=True)),
    CheckConstraint('"only"', name="rebuilds_only_check"),
)

# What payment says, while a rebuild collects it.
snapshots = Table(
    "snapshots",
    metadata,
    Column("run", UUID(as_uuid=True), primary_key=True),
    Column("user_id", UUID(as_uuid=True), primary_key=True),
    _count("transactions"),
    _count("amount"),
    _count("paid"),
    _count("events"),
)

inbox.declare(metadata)
