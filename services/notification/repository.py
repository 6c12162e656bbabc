"""All SQL of notification. Times are the database's, so that workers on different machines agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notification.domain import Channel, Status
from services.notification.models import deliveries


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery as it is written. `expires_after` in seconds."""

    id: UUID
    caller: str
    request_id: UUID
    input_hash: bytes
    channel: Channel
    template: str
    recipient: bytes
    recipient_key_id: int
    sealed: bytes
    status: Status
    attempts_allowed: int
    expires_after: int | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery to send before its lease ends. `attempt` tells this claim from later ones."""

    id: UUID
    channel: Channel
    sealed: bytes
    attempt: int
    attempts_allowed: int
    expired: bool


def _in(seconds: float) -> ColumnElement[Any]:
    return func.now() + timedelta(seconds=seconds)


async def insert_delivery(connection: AsyncConnection, new: NewDelivery) -> bool:
    """Keeps a delivery. False when the caller has used the request_id before."""
    sent = new.status is Status.SENT
    done = await connection.execute(
        insert(deliveries)
        .values(
            id=new.id,
            caller=new.caller,
            request_id=new.request_id,
            input_hash=new.input_hash,
            channel=new.channel.value,
            template=new.template,
            recipient=new.recipient,
            recipient_key_id=new.recipient_key_id,
            sealed=new.sealed,
            status=new.status.value,
            attempts=1 if sent else 0,
            attempts_allowed=new.attempts_allowed,
            expires_at=None if new.expires_after is None else _in(new.expires_after),
            settled_at=func.now() if sent else None,
        )
        .on_conflict_do_nothing(constraint="deliveries_request_key")
    )
    return done.rowcount == 1


async def by_request(connection: AsyncConnection, caller: str, request_id: UUID) -> tuple[UUID, bytes] | None:
    """Id and input hash of what a caller ordered under a request_id, or None."""
    row = (
        await connection.execute(
            select(deliveries.c.id, deliveries.c.input_hash).where(
                deliveries.c.caller == caller, deliveries.c.request_id == request_id
            )
        )
    ).one_or_none()
    return None if row is None else (row.id, row.input_hash)


async def claim(
    connection: AsyncConnection, channels: Sequence[Channel], *, limit: int, lease: float
) -> list[Claimed]:
    """Takes what is due, oldest first, for `lease` seconds. What others are just taking is passed over."""
    due = (
        select(deliveries.c.id)
        .where(
            deliveries.c.status == Status.PENDING.value,
            deliveries.c.due_at <= func.now(),
            deliveries.c.channel.in_([channel.value for channel in channels]),
        )
        .order_by(deliveries.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    rows = await connection.execute(
        update(deliveries)
        .where(deliveries.c.id == due.c.id)
        .values(due_at=_in(lease), attempts=deliveries.c.attempts + 1)
        .returning(
            deliveries.c.id,
            deliveries.c.channel,
            deliveries.c.sealed,
            deliveries.c.attempts,
            deliveries.c.attempts_allowed,
            func.coalesce(deliveries.c.expires_at <= func.now(), False).label("expired"),
        )
    )
    return [
        Claimed(row.id, Channel(row.channel), row.sealed, row.attempts, row.attempts_allowed, row.expired)
        for row in rows
    ]


async def settle(
    connection: AsyncConnection,
    claimed: Claimed,
    status: Status,
    *,
    failure: str = "",
    retry_after: float = 0.0,
) -> bool:
    """Writes how a try ended. False when the lease ended first and somebody else has it now."""
    values: dict[str, Any] = {"status": status.value, "failure": failure}
    if status is Status.PENDING:
        values["due_at"] = _in(retry_after)
    else:
        values["settled_at"] = func.now()
    if status is Status.SENT:
        values["sealed"] = None
    done = await connection.execute(
        update(deliveries)
        .where(
            deliveries.c.id == claimed.id,
            deliveries.c.attempts == claimed.attempt,
            deliveries.c.status == Status.PENDING.value,
        )
        .values(**values)
    )
    return done.rowcount == 1


async def newest(
    connection: AsyncConnection, *, recipient: bytes | None, status: Status | None, limit: int
) -> list[Row[Any]]:
    """Deliveries, newest first."""
    query = select(deliveries).order_by(deliveries.c.created_at.desc(), deliveries.c.id.desc()).limit(limit)
    if recipient is not None:
        query = query.where(deliveries.c.recipient == recipient)
    if status is not None:
        query = query.where(deliveries.c.status == status.value)
    return list(await connection.execute(query))


async def replay(connection: AsyncConnection, *, only: UUID | None, attempts: int, limit: int) -> int:
    """Makes dead letters that are still worth something due at once; returns how many."""
    dead = (
        select(deliveries.c.id)
        .where(
            deliveries.c.status == Status.DEAD.value,
            or_(deliveries.c.expires_at.is_(None), deliveries.c.expires_at > func.now()),
        )
        .order_by(deliveries.c.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if only is not None:
        dead = dead.where(deliveries.c.id == only)
    found = dead.cte("dead")
    done = await connection.execute(
        update(deliveries)
        .where(deliveries.c.id == found.c.id)
        .values(
            status=Status.PENDING.value,
            due_at=func.now(),
            settled_at=None,
            attempts_allowed=deliveries.c.attempts + attempts,
        )
    )
    return done.rowcount


async def purge(connection: AsyncConnection, status: Status, *, older: float, limit: int) -> int:
    """Deletes what was settled more than `older` seconds ago and has this status; returns how many."""
    old = (
        select(deliveries.c.id)
        .where(
            deliveries.c.status == status.value,
            deliveries.c.created_at < _in(-older),
            deliveries.c.settled_at < _in(-older),
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("old")
    )
    done = await connection.execute(delete(deliveries).where(deliveries.c.id == old.c.id))
    return done.rowcount
