"""All SQL of identity's sessions, and of the log of those that ended."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.identity.domain import Session
from services.identity.models import devices, revocation_head, revocations, sessions
from services.mesh.fast_database import FastDatabase
from services.mesh.revocation import Revocation

_FIELDS = (
    "id",
    "account_id",
    "generation",
    "salt",
    "rotated_at",
    "refresh_expires_at",
    "created_at",
    "device",
    "last_request_id",
    "ended_at",
)
REVOCATIONS_PAGE = 1000


def _session(row: Row[Any]) -> Session:
    return Session(**{name: getattr(row, name) for name in _FIELDS})


async def insert_session(connection: AsyncConnection, session: Session) -> None:
    """Keeps a new session."""
    await connection.execute(insert(sessions).values({name: getattr(session, name) for name in _FIELDS}))


async def session_by_id(connection: AsyncConnection, session_id: UUID) -> Session | None:
    """A session, or None."""
    row = (await connection.execute(select(sessions).where(sessions.c.id == session_id))).one_or_none()
    return None if row is None else _session(row)


async def add_device(connection: AsyncConnection, account_id: UUID, device: str) -> tuple[bool, bool]:
    """Keeps what an account said of its device; returns whether it had any before, and whether this one.

    Of several at once one adds it: the others wait for its transaction, and find the device known.
    """
    added = (
        upsert(devices)
        .values(account_id=account_id, device=device)
        .on_conflict_do_nothing()
        .returning(devices.c.device)
        .cte("added")
    )
    # Read as of the statement's beginning, so without the row that it adds.
    before = select(devices.c.device).where(devices.c.account_id == account_id)
    row = (
        await connection.execute(
            select(before.exists().label("any"), (~select(added).exists()).label("same"))
        )
    ).one()
    return row.any or row.same, row.same


async def device_of(connection: AsyncConnection, account_id: UUID, session_id: UUID) -> str | None:
    """What a session of an account said of its device; None when there is no such session."""
    found: str | None = await connection.scalar(
        select(sessions.c.device).where(sessions.c.id == session_id, sessions.c.account_id == account_id)
    )
    return found


async def lock_session(connection: AsyncConnection, session_id: UUID) -> Session | None:
    """A session, held until the end of the transaction; None when there is none."""
    row = (
        await connection.execute(select(sessions).where(sessions.c.id == session_id).with_for_update())
    ).one_or_none()
    return None if row is None else _session(row)


async def keep_rotation(connection: AsyncConnection, session: Session) -> None:
    """Writes what a refresh changed."""
    await connection.execute(
        update(sessions)
        .where(sessions.c.id == session.id)
        .values(
            generation=session.generation,
            rotated_at=session.rotated_at,
            refresh_expires_at=session.refresh_expires_at,
            last_request_id=session.last_request_id,
        )
    )


async def open_sessions(connection: AsyncConnection, account_id: UUID, limit: int) -> list[Session]:
    """Sessions of an account that have not ended, newest first."""
    rows = await connection.execute(
        select(sessions)
        .where(
            sessions.c.account_id == account_id,
            sessions.c.ended_at.is_(None),
            sessions.c.refresh_expires_at > func.now(),
        )
        .order_by(sessions.c.created_at.desc())
        .limit(limit)
    )
    return [_session(row) for row in rows]


async def end_session(
    connection: AsyncConnection, session_id: UUID, account_id: UUID, until: datetime
) -> list[UUID]:
    """Ends one session of an account; returns it, or nothing when there is no open one."""
    ended = await connection.execute(
        update(sessions)
        .where(
            sessions.c.id == session_id, sessions.c.account_id == account_id, sessions.c.ended_at.is_(None)
        )
        .values(ended_at=func.now())
        .returning(sessions.c.id)
    )
    return await _revoke(connection, [row.id for row in ended], until)


async def end_sessions(
    connection: AsyncConnection, account_id: UUID, until: datetime, *, but: UUID | None = None
) -> list[UUID]:
    """Ends all open sessions of an account, but one; returns them."""
    statement = update(sessions).where(sessions.c.account_id == account_id, sessions.c.ended_at.is_(None))
    if but is not None:
        statement = statement.where(sessions.c.id != but)
    ended = await connection.execute(statement.values(ended_at=func.now()).returning(sessions.c.id))
    return await _revoke(connection, [row.id for row in ended], until)


async def _revoke(connection: AsyncConnection, ended: list[UUID], until: datetime) -> list[UUID]:
    """Appends to the log; returns what it was given.

    The head's lock is held to the end, so numbers are in the order of commits.
    """
    if not ended:
        return ended
    last = await connection.scalar(
        update(revocation_head)
        .values(number=revocation_head.c.number + len(ended))
        .returning(revocation_head.c.number)
    )
    first = int(last or 0) - len(ended) + 1
    await connection.execute(
        insert(revocations),
        [
            {"number": first + offset, "session_id": session_id, "until": until}
            for offset, session_id in enumerate(ended)
        ],
    )
    return ended


# Asked twice a second for ever: by the driver itself, since SQLAlchemy takes three times as long as that.
_REVOCATIONS = """
SELECT number, session_id, until FROM revocations WHERE number > $1 ORDER BY number LIMIT $2
"""


async def revocations_after(database: FastDatabase, number: int) -> list[Revocation]:
    """The log after a number, in order, at most a page. Raises Unavailable."""
    rows = await database.fetch(_REVOCATIONS, number, REVOCATIONS_PAGE)
    return [Revocation(row["number"], str(row["session_id"]), row["until"].timestamp()) for row in rows]


async def clear_revocations(connection: AsyncConnection) -> None:
    """Forgets what no token can be valid for any more."""
    await connection.execute(delete(revocations).where(revocations.c.until < func.now()))
