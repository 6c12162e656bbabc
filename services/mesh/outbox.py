"""Events as rows, written in the transaction that makes them true. A relay takes them to the bus.

The table is cut into days. Days are made ahead and dropped by age by `outbox_days`, a function of the role
that owns the tables: the one that a service runs as cannot change the schema. A day that still has something
to publish is not dropped. Should a day be missing, its rows go to a default partition: no sign-in fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.dialects.postgresql import UUID as PGUUID
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from services.mesh import trace
from services.mesh.database import Database, after_commit
from services.mesh.errors import SampanError
from services.mesh.ids import uuid7
from services.mesh.metrics import Gauge

NAME = "outbox"
# Names of partitions begin so; Alembic leaves them alone.
PARTITION_PREFIX = "outbox_day_"
HEAD = "outbox_head"
# Days that are there before they begin.
_DAYS_AHEAD = 7
# How often to look after the days, in seconds.
_KEEP_SECONDS = 3600.0
# More than this is too many, however many it is.
_COUNTED = 100_000
_UNPUBLISHED = "outbox_unpublished_idx"


def _columns() -> tuple[sa.Column[object] | sa.Identity | sa.PrimaryKeyConstraint, ...]:
    return (
        # The order of writing. Events of one aggregate are written under its lock: theirs is that of commits.
        sa.Column("position", sa.BigInteger, sa.Identity(always=True), nullable=False),
        # UUIDv7: the Nats-Msg-Id, and what consumers remember.
        sa.Column("id", PGUUID(as_uuid=True), nullable=False),
        # sampan.<context>.<event>
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("aggregate_id", PGUUID(as_uuid=True), nullable=False),
        # Counts the events of the aggregate, from 1.
        sa.Column("aggregate_version", sa.BigInteger, nullable=False),
        # The event in protobuf. Ids only, no personal text.
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("traceparent", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("published_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("created_at", "position", name="outbox_pkey"),
    )


def _head_columns() -> tuple[sa.Column[object] | sa.CheckConstraint, ...]:
    return (
        sa.Column("only", sa.Boolean, primary_key=True, server_default=sa.true()),
        # When the stream was made that the rows went to: another one is empty.
        sa.Column("stream_created_at", sa.DateTime(timezone=True), nullable=False),
        # The highest sequence that the stream has given to an event of ours.
        sa.Column("stream_sequence", sa.BigInteger, nullable=False, server_default="0"),
        sa.CheckConstraint('"only"', name="outbox_head_only_check"),
    )


def declare(metadata: sa.MetaData) -> sa.Table:
    """The tables, for a service's models."""
    table = sa.Table(NAME, metadata, *_columns(), postgresql_partition_by="RANGE (created_at)")
    sa.Index(_UNPUBLISHED, table.c.position, postgresql_where=sa.text("published_at IS NULL"))
    declare_head(metadata)
    return table


def declare_head(metadata: sa.MetaData) -> None:
    """The table of what a relay knows of its stream; alone where events are no rows of an outbox."""
    sa.Table(HEAD, metadata, *_head_columns())


def create(role: str) -> None:
    """Makes the tables and the first days, in a migration; `role` is the one that the service runs as."""
    from alembic import op

    op.create_table(NAME, *_columns(), postgresql_partition_by="RANGE (created_at)")
    op.create_index(_UNPUBLISHED, NAME, ["position"], postgresql_where=sa.text("published_at IS NULL"))
    create_head(role)
    op.execute(f"CREATE TABLE {PARTITION_PREFIX}other PARTITION OF {NAME} DEFAULT")
    op.execute(_DAYS_FUNCTION)
    op.execute("REVOKE ALL ON FUNCTION outbox_days(integer, integer) FROM PUBLIC")
    op.execute(f'GRANT EXECUTE ON FUNCTION outbox_days(integer, integer) TO "{role}"')
    op.execute(f'GRANT SELECT, INSERT, UPDATE (published_at) ON {NAME} TO "{role}"')
    op.execute(f"SELECT outbox_days({_DAYS_AHEAD}, 366)")


def create_head(role: str) -> None:
    """Makes the table of `declare_head`, in a migration."""
    from alembic import op

    op.create_table(HEAD, *_head_columns())
    op.execute(f'GRANT SELECT, INSERT, UPDATE ON {HEAD} TO "{role}"')


def drop() -> None:
    """Removes all of it, in a migration."""
    from alembic import op

    op.execute("DROP FUNCTION outbox_days(integer, integer)")
    op.drop_table(HEAD)
    op.drop_table(NAME)


# Returns how many days it made and dropped. A day whose rows went to the default partition cannot be made any
# more: they stay there and are deleted by age. Who writes must not wait for long behind a lock.
_DAYS_FUNCTION = f"""
CREATE FUNCTION outbox_days(ahead integer, keep integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    today CONSTANT date := (now() AT TIME ZONE 'UTC')::date;
    changed integer := 0;
    day date;
    name text;
    busy boolean;
BEGIN
    FOR day IN SELECT today + n FROM generate_series(-1, least(ahead, 60)) AS n LOOP
        name := '{PARTITION_PREFIX}' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE TABLE %I PARTITION OF {NAME} FOR VALUES FROM (%L) TO (%L)', name,
                to_char(day, 'YYYY-MM-DD') || ' 00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00+00');
            changed := changed + 1;
        EXCEPTION WHEN check_violation THEN NULL;
        END;
    END LOOP;
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = '{NAME}'::regclass AND c.relname ~ '^{PARTITION_PREFIX}[0-9]{{8}}$'
            AND to_date(right(c.relname, 8), 'YYYYMMDD') < today - greatest(keep, 1)
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE published_at IS NULL)', name) INTO busy;
        CONTINUE WHEN busy;
        EXECUTE format('DROP TABLE %I', name);
        changed := changed + 1;
    END LOOP;
    DELETE FROM {PARTITION_PREFIX}other
        WHERE published_at IS NOT NULL AND created_at < now() - make_interval(days => greatest(keep, 1));
    RETURN changed;
END $$
"""  # noqa: S608 - made of constants

_table = declare(sa.MetaData())


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to an aggregate. `version` counts that aggregate's events, from 1."""

    subject: str
    aggregate_id: UUID
    version: int
    payload: Message
    id: UUID = field(default_factory=uuid7)


class Outbox:
    """Writes events. `wake` tells the relay of this process that there is something, after the commit."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def wake(self) -> None:
        """Says that there are events which something else than `add` wrote, when they are committed."""
        self._wake()

    async def add(self, connection: AsyncConnection, *events: Event) -> None:
        """Keeps events, in the caller's transaction: they become true, or not, with everything else in it."""
        if not events:
            return
        rows = [
            {
                "id": one.id,
                "subject": one.subject,
                "aggregate_id": one.aggregate_id,
                "aggregate_version": one.version,
                "payload": one.payload.SerializeToString(deterministic=True),
                "traceparent": trace.traceparent.get(),
            }
            for one in events
        ]
        await connection.execute(insert(_table).values(rows))
        after_commit(connection, self._wake)


class Keeper:
    """Makes the outbox's days ahead and drops those that are too old."""

    def __init__(self, database: Database, log: FilteringBoundLogger, *, days: int) -> None:
        self._database = database
        self._log = log
        self._days = days

    async def run(self) -> None:
        """Now and every hour, until cancelled."""
        while True:
            try:
                await self.once()
            except (SampanError, DBAPIError) as error:
                self._log.warning("outbox.days_postponed", error=type(error).__name__)
            await asyncio.sleep(_KEEP_SECONDS)

    async def observe(self) -> list[Gauge]:
        """How much waits to be published. Raises Unavailable."""
        waiting = (
            sa.select(_table.c.created_at).where(_table.c.published_at.is_(None)).limit(_COUNTED).subquery()
        )
        age = sa.func.extract("epoch", sa.func.now() - sa.func.min(waiting.c.created_at))
        async with self._database.reading() as connection:
            rows, seconds = (
                await connection.execute(sa.select(sa.func.count(), age).select_from(waiting))
            ).one()
        told = f"Events that are not published yet; counted up to {_COUNTED}."
        return [
            Gauge("sampan_outbox_unpublished", told, rows),
            Gauge("sampan_outbox_unpublished_seconds", "Age of the oldest of them.", float(seconds or 0.0)),
        ]

    async def once(self) -> int:
        """One round; returns how many days were made and dropped. Raises Unavailable."""
        async with self._database.transaction() as connection:
            changed = await connection.scalar(sa.select(sa.func.outbox_days(_DAYS_AHEAD, self._days)))
        return int(changed or 0)
