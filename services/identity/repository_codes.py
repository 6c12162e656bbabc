"""All SQL of identity's one-time codes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.identity.domain import Challenge, IdentifierKind, Purpose
from services.identity.models import challenges

_DAY = timedelta(days=1)


def _challenge(row: Row[Any]) -> Challenge:
    return Challenge(
        id=row.id,
        purpose=Purpose(row.purpose),
        kind=IdentifierKind(row.kind),
        lookup=row.lookup,
        sealed=row.sealed,
        code_mac=row.code_mac,
    )


async def lock_identifier(connection: AsyncConnection, lookup: bytes) -> None:
    """One at a time for an identifier, until the end of the transaction."""
    key = int.from_bytes(lookup[:8], "big", signed=True)
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


async def sent_today(connection: AsyncConnection, lookup: bytes) -> tuple[int, datetime | None]:
    """How many codes went to an identifier within 24 h, and when the first of them did."""
    row = (
        await connection.execute(
            select(func.count().label("sent"), func.min(challenges.c.created_at).label("first")).where(
                challenges.c.lookup == lookup, challenges.c.created_at > func.now() - _DAY
            )
        )
    ).one()
    return row.sent, row.first


async def insert_challenge(connection: AsyncConnection, challenge: Challenge, expires_at: datetime) -> None:
    """Keeps a code that is about to be sent."""
    await connection.execute(
        insert(challenges).values(
            id=challenge.id,
            purpose=challenge.purpose.value,
            kind=challenge.kind.value,
            lookup=challenge.lookup,
            sealed=challenge.sealed,
            code_mac=challenge.code_mac,
            expires_at=expires_at,
        )
    )


async def purpose_of(connection: AsyncConnection, challenge_id: UUID) -> Purpose | None:
    """What a code is for, or None when there is no such challenge."""
    found = await connection.scalar(select(challenges.c.purpose).where(challenges.c.id == challenge_id))
    return None if found is None else Purpose(found)


async def take_try(connection: AsyncConnection, challenge_id: UUID, tries: int) -> Challenge | None:
    """Uses up one try and holds the challenge until the end of the transaction.

    None when it is unknown, spent, expired or out of tries.
    """
    row = (
        await connection.execute(
            update(challenges)
            .where(
                challenges.c.id == challenge_id,
                challenges.c.spent_at.is_(None),
                challenges.c.expires_at > func.now(),
                challenges.c.tries < tries,
            )
            .values(tries=challenges.c.tries + 1)
            .returning(challenges)
        )
    ).one_or_none()
    return None if row is None else _challenge(row)


async def spend(connection: AsyncConnection, challenge_id: UUID) -> None:
    """Makes a code useless, and forgets whose it was."""
    await connection.execute(
        update(challenges).where(challenges.c.id == challenge_id).values(spent_at=func.now(), sealed=None)
    )


async def clear_challenges(connection: AsyncConnection) -> None:
    """Forgets identifiers of expired codes, and whole challenges when they no longer count for the day."""
    await connection.execute(
        update(challenges)
        .where(challenges.c.expires_at < func.now(), challenges.c.sealed.is_not(None))
        .values(sealed=None)
    )
    await connection.execute(delete(challenges).where(challenges.c.created_at < func.now() - 2 * _DAY))
