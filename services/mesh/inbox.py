"""What a service has consumed: ids of events with their effects, and events that keep failing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID as PGUUID
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

_INBOX = "inbox"
_TROUBLED = "inbox_troubled"
_AGE_INDEX = "inbox_recorded_idx"
_REPLAY_INDEX = "inbox_troubled_replay_idx"
# Rows that one statement deletes, at most.
PURGE_LIMIT = 1000
# Longest name of an error that is kept.
_ERROR_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Received:
    """An event as it came over the bus. `payload` is protobuf of the message that `subject` names."""

    id: UUID
    subject: str
    aggregate_id: UUID
    version: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that failed too often. `error` is the class of the last failure, never its text."""

    event: Received
    tries: int
    error: str
    parked_at: datetime


def _inbox_columns() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("event_id", PGUUID(as_uuid=True), primary_key=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )


def _troubled_columns() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("event_id", PGUUID(as_uuid=True), primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("aggregate_id", PGUUID(as_uuid=True), nullable=False),
        sa.Column("aggregate_version", sa.BigInteger, nullable=False),
        # Ids only, as all events.
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        # The class of the last failure; its text might be personal.
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        # Not null: it is not tried any more by itself.
        sa.Column("parked_at", sa.DateTime(timezone=True)),
        # Not null: the operator wants it tried again.
        sa.Column("replay_at", sa.DateTime(timezone=True)),
    )


def declare(metadata: sa.MetaData) -> tuple[sa.Table, sa.Table]:
    """The tables, for a service's models."""
    inbox = sa.Table(_INBOX, metadata, *_inbox_columns())
    sa.Index(_AGE_INDEX, inbox.c.recorded_at)
    troubled = sa.Table(_TROUBLED, metadata, *_troubled_columns())
    sa.Index(_REPLAY_INDEX, troubled.c.replay_at, postgresql_where=sa.text("replay_at IS NOT NULL"))
    return inbox, troubled


def create(role: str) -> None:
    """Makes the tables, in a migration; `role` is the one that the service runs as."""
    from alembic import op

    op.create_table(_INBOX, *_inbox_columns())
    op.create_index(_AGE_INDEX, _INBOX, ["recorded_at"])
    op.create_table(_TROUBLED, *_troubled_columns())
    op.create_index(
        _REPLAY_INDEX, _TROUBLED, ["replay_at"], postgresql_where=sa.text("replay_at IS NOT NULL")
    )
    op.execute(f'GRANT SELECT, INSERT, DELETE ON {_INBOX} TO "{role}"')
    op.execute(f'GRANT SELECT, INSERT, UPDATE, DELETE ON {_TROUBLED} TO "{role}"')


def drop() -> None:
    """Removes the tables, in a migration."""
    from alembic import op

    op.drop_table(_TROUBLED)
    op.drop_table(_INBOX)


_inbox, _troubled = declare(sa.MetaData())
# One text, however many they are, and one round trip.
_RECORD_ALL = sa.text(
    f"WITH settled AS (DELETE FROM {_TROUBLED} WHERE event_id = ANY (CAST(:ids AS uuid[])))"  # noqa: S608
    f" INSERT INTO {_INBOX} (event_id) SELECT * FROM unnest(CAST(:ids AS uuid[]))"
    " ON CONFLICT DO NOTHING RETURNING event_id"
)


async def is_recorded(connection: AsyncConnection, event_id: UUID) -> bool:
    """Whether an event has had its effect."""
    found = await connection.scalar(sa.select(_inbox.c.event_id).where(_inbox.c.event_id == event_id))
    return found is not None


async def recorded(connection: AsyncConnection, event_ids: Sequence[UUID]) -> set[UUID]:
    """Those of some events that have had their effect."""
    found = await connection.scalars(sa.select(_inbox.c.event_id).where(_inbox.c.event_id.in_(event_ids)))
    return set(found)


async def record_all(connection: AsyncConnection, event_ids: Sequence[UUID]) -> set[UUID]:
    """Writes that events have their effects, as `record`; those that have not had them before."""
    # In one order everywhere, so that processes which record the same do not wait for each other.
    return set(await connection.scalars(_RECORD_ALL, {"ids": sorted(set(event_ids))}))


async def record(connection: AsyncConnection, event_id: UUID) -> bool:
    """Writes that an event has its effect, in the transaction of that. False when it has had it before."""
    done = await connection.execute(insert(_inbox).values(event_id=event_id).on_conflict_do_nothing())
    await connection.execute(sa.delete(_troubled).where(_troubled.c.event_id == event_id))
    return done.rowcount == 1


async def purge(connection: AsyncConnection, days: int) -> int:
    """Forgets ids that are older than any event can be; returns how many, PURGE_LIMIT at most."""
    old = (
        sa.select(_inbox.c.event_id)
        .where(_inbox.c.recorded_at < sa.func.now() - timedelta(days=days))
        .limit(PURGE_LIMIT)
    )
    return (await connection.execute(sa.delete(_inbox).where(_inbox.c.event_id.in_(old)))).rowcount


async def begin_try(connection: AsyncConnection, event: Received) -> tuple[int, str]:
    """Counts a try before it is made, so that one that ends the process counts, too.

    Returns how many there have been with this one, and the class of the last failure.
    """
    row = (
        await connection.execute(
            insert(_troubled)
            .values(
                event_id=event.id,
                subject=event.subject,
                aggregate_id=event.aggregate_id,
                aggregate_version=event.version,
                payload=event.payload,
                tries=1,
            )
            .on_conflict_do_update(
                index_elements=[_troubled.c.event_id], set_={"tries": _troubled.c.tries + 1}
            )
            .returning(_troubled.c.tries, _troubled.c.error)
        )
    ).one()
    return row.tries, row.error


async def take_back_try(connection: AsyncConnection, event_id: UUID) -> None:
    """A try that failed because something was away does not count."""
    await connection.execute(
        sa.update(_troubled).where(_troubled.c.event_id == event_id).values(tries=_troubled.c.tries - 1)
    )


async def keep_failure(connection: AsyncConnection, event_id: UUID, error: str, *, park: bool) -> None:
    """Writes why a try failed; parks the event when it was the last one."""
    values = {"error": error[:_ERROR_LENGTH], "replay_at": None}
    await connection.execute(
        sa.update(_troubled)
        .where(_troubled.c.event_id == event_id)
        .values(values | ({"parked_at": sa.func.now()} if park else {}))
    )


async def parked(connection: AsyncConnection, limit: int) -> list[Parked]:
    """Events that are not tried any more, the longest parked first."""
    rows = await connection.execute(
        sa.select(_troubled)
        .where(_troubled.c.parked_at.is_not(None))
        .order_by(_troubled.c.parked_at)
        .limit(limit)
    )
    return [Parked(_event(row), row.tries, row.error, row.parked_at) for row in rows]


async def count_parked(connection: AsyncConnection) -> int:
    """How many events are not tried any more."""
    count = sa.select(sa.func.count()).where(_troubled.c.parked_at.is_not(None))
    return int(await connection.scalar(count) or 0)


async def ask_replay(connection: AsyncConnection, event_id: UUID | None) -> int:
    """Has one parked event, or all, tried again; returns how many."""
    statement = sa.update(_troubled).where(_troubled.c.parked_at.is_not(None))
    if event_id is not None:
        statement = statement.where(_troubled.c.event_id == event_id)
    return (await connection.execute(statement.values(replay_at=sa.func.now()))).rowcount


async def to_replay(connection: AsyncConnection, subjects: Sequence[str], limit: int) -> list[Received]:
    """Takes events of some subjects to try them again; what another process is just taking is passed over."""
    rows = await connection.execute(_replaying(tuple(subjects), limit))
    return [_event(row) for row in rows]


@cache
def _replaying(subjects: tuple[str, ...], limit: int) -> sa.Executable:
    """Made once: making it takes longer than asking it, and it is asked for ever."""
    chosen = (
        sa.select(_troubled.c.event_id)
        .where(_troubled.c.replay_at.is_not(None), _troubled.c.subject.in_(subjects))
        .order_by(_troubled.c.replay_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (
        sa.update(_troubled)
        .where(_troubled.c.event_id.in_(chosen))
        .values(replay_at=None)
        .returning(_troubled)
    )


def _event(row: sa.Row[tuple[object, ...]]) -> Received:
    return Received(row.event_id, row.subject, row.aggregate_id, row.aggregate_version, row.payload)
