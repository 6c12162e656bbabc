"""SQL of invites."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Delete, Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.workspace.models import invites


def _works() -> tuple[ColumnElement[bool], ...]:
    return (invites.c.revoked_at.is_(None), invites.c.uses_left > 0, invites.c.expires_at > func.now())


async def insert_invite(
    connection: AsyncConnection,
    invite_id: UUID,
    workspace_id: UUID,
    code_hash: bytes,
    *,
    uses: int,
    life: timedelta,
    created_by: UUID,
) -> None:
    """Makes an invite."""
    await connection.execute(
        insert(invites).values(
            id=invite_id,
            workspace_id=workspace_id,
            code_hash=code_hash,
            uses_left=uses,
            expires_at=func.now() + life,
            created_by=created_by,
        )
    )


async def invite(connection: AsyncConnection, workspace_id: UUID, invite_id: UUID) -> Row[Any] | None:
    """An invite of a workspace, also one that has ended, or None."""
    found = await connection.execute(
        select(invites).where(invites.c.workspace_id == workspace_id, invites.c.id == invite_id)
    )
    return found.one_or_none()


async def invite_by_code(connection: AsyncConnection, code_hash: bytes) -> Row[Any] | None:
    """The invite of a code, or None when it was revoked or is too old. Whether it is spent is not asked."""
    found = await connection.execute(
        select(invites).where(
            invites.c.code_hash == code_hash,
            invites.c.revoked_at.is_(None),
            invites.c.expires_at > func.now(),
        )
    )
    return found.one_or_none()


async def use_invite(connection: AsyncConnection, invite_id: UUID) -> bool:
    """Takes one use. False when there is none left, or it has ended meanwhile."""
    done = await connection.execute(
        update(invites).where(invites.c.id == invite_id, *_works()).values(uses_left=invites.c.uses_left - 1)
    )
    return done.rowcount == 1


async def working_before(
    connection: AsyncConnection, workspace_id: UUID, before: UUID | None, limit: int
) -> list[Row[Any]]:
    """Invites that work, newest first, older than the one with the id `before`."""
    statement = (
        select(invites)
        .where(invites.c.workspace_id == workspace_id, *_works())
        .order_by(invites.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(invites.c.id < before)
    return list(await connection.execute(statement))


async def count_working(connection: AsyncConnection, workspace_id: UUID) -> int:
    """How many invites of a workspace work."""
    counted = (
        select(func.count()).select_from(invites).where(invites.c.workspace_id == workspace_id, *_works())
    )
    return (await connection.execute(counted)).scalar_one()


async def revoke(connection: AsyncConnection, invite_id: UUID) -> None:
    """Ends an invite; the first time counts."""
    await connection.execute(
        update(invites)
        .where(invites.c.id == invite_id, invites.c.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )


async def delete_invites(connection: AsyncConnection, workspace_id: UUID) -> None:
    """Deletes all invites of a workspace."""
    await connection.execute(delete(invites).where(invites.c.workspace_id == workspace_id))


async def purge_invites(connection: AsyncConnection, older: timedelta, limit: int) -> int:
    """Deletes some that expired longer ago; returns how many."""
    return (await connection.execute(_purging(older, limit))).rowcount


@cache
def _purging(older: timedelta, limit: int) -> Delete:
    """Made once: making it takes longer than asking it, and it is asked for ever."""
    old = (
        select(invites.c.id)
        .where(invites.c.expires_at < func.now() - older)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return delete(invites).where(invites.c.id.in_(old))
