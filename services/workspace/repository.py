"""All SQL of workspaces and their members; that of invites and channels stands beside."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.workspace.models import members, workspaces

# What is locked for a person has keys of its own, so that it meets no other advisory lock.
_PERSON_LOCK = 0x5761


async def lock_person(connection: AsyncConnection, user_id: UUID) -> None:
    """Keeps other transactions from counting a person's workspaces until the end of this one."""
    await connection.execute(
        text("SELECT pg_advisory_xact_lock(:space, hashtext(:person))"),
        {"space": _PERSON_LOCK, "person": str(user_id)},
    )


async def insert_workspace(
    connection: AsyncConnection, workspace_id: UUID, owner_id: UUID, name: str, slug: str, description: str
) -> bool:
    """Makes a workspace without members. False when the slug is taken, also just now."""
    done = await connection.execute(
        upsert(workspaces)
        .values(id=workspace_id, owner_id=owner_id, name=name, slug=slug, description=description)
        .on_conflict_do_nothing(constraint="workspaces_slug_key")
    )
    return done.rowcount == 1


async def lock_workspace(connection: AsyncConnection, workspace_id: UUID) -> bool:
    """Keeps others from changing a workspace, its members and channels. Whether it exists."""
    found = await connection.execute(
        select(workspaces.c.id).where(workspaces.c.id == workspace_id).with_for_update(key_share=True)
    )
    return found.one_or_none() is not None


def _seen() -> Any:
    """Workspaces with the role and times of each member."""
    return select(workspaces, members.c.user_id, members.c.role, members.c.joined_at).join(
        members, members.c.workspace_id == workspaces.c.id
    )


async def workspace_of(connection: AsyncConnection, workspace_id: UUID, user_id: UUID) -> Row[Any] | None:
    """A workspace with a person's role in it; None when they are not in it."""
    found = await connection.execute(
        _seen().where(workspaces.c.id == workspace_id, members.c.user_id == user_id)
    )
    return found.one_or_none()


async def workspaces_of(
    connection: AsyncConnection, user_id: UUID, before: UUID | None, limit: int
) -> list[Row[Any]]:
    """A person's workspaces, newest first, older than the one with the id `before`."""
    statement = (
        _seen().where(members.c.user_id == user_id).order_by(members.c.workspace_id.desc()).limit(limit)
    )
    if before is not None:
        statement = statement.where(members.c.workspace_id < before)
    return list(await connection.execute(statement))


async def count_workspaces_of(connection: AsyncConnection, user_id: UUID) -> int:
    """How many workspaces a person is in."""
    counted = select(func.count()).select_from(members).where(members.c.user_id == user_id)
    return (await connection.execute(counted)).scalar_one()


async def update_workspace(
    connection: AsyncConnection, workspace_id: UUID, changes: Mapping[str, object]
) -> None:
    """Sets columns of a workspace. Breaks `workspaces_slug_key` when the slug is taken."""
    await connection.execute(update(workspaces).where(workspaces.c.id == workspace_id).values(**changes))


async def count(connection: AsyncConnection, workspace_id: UUID, *, people: int = 0, rooms: int = 0) -> None:
    """Counts members and channels that came or went."""
    await connection.execute(
        update(workspaces)
        .where(workspaces.c.id == workspace_id)
        .values(
            member_count=workspaces.c.member_count + people, channel_count=workspaces.c.channel_count + rooms
        )
    )


async def next_event(connection: AsyncConnection, workspace_id: UUID) -> int:
    """The number of the next event of a workspace, from 1."""
    done = await connection.execute(
        update(workspaces)
        .where(workspaces.c.id == workspace_id)
        .values(event_count=workspaces.c.event_count + 1)
        .returning(workspaces.c.event_count)
    )
    return int(done.scalar_one())


async def delete_workspace(connection: AsyncConnection, workspace_id: UUID) -> None:
    """Deletes a workspace that has no invites any more, and its members."""
    await connection.execute(delete(members).where(members.c.workspace_id == workspace_id))
    await connection.execute(delete(workspaces).where(workspaces.c.id == workspace_id))


async def insert_member(connection: AsyncConnection, workspace_id: UUID, user_id: UUID, role: int) -> None:
    """Somebody is in a workspace now."""
    await connection.execute(insert(members).values(workspace_id=workspace_id, user_id=user_id, role=role))


async def member(connection: AsyncConnection, workspace_id: UUID, user_id: UUID) -> Row[Any] | None:
    """Somebody in a workspace, or None."""
    found = await connection.execute(
        select(members).where(members.c.workspace_id == workspace_id, members.c.user_id == user_id)
    )
    return found.one_or_none()


async def members_after(
    connection: AsyncConnection,
    workspace_id: UUID,
    after: tuple[int, datetime, UUID] | None,
    limit: int,
) -> list[Row[Any]]:
    """Members, those with the most rights first, then by time; those that come after one of them."""
    order = (-members.c.role, members.c.joined_at, members.c.user_id)
    statement = (
        select(members)
        .where(members.c.workspace_id == workspace_id)
        .order_by(members.c.role.desc(), *order[1:])
        .limit(limit)
    )
    if after is not None:
        role, joined_at, user_id = after
        statement = statement.where(tuple_(*order) > tuple_(-role, joined_at, user_id))
    return list(await connection.execute(statement))


async def set_role(connection: AsyncConnection, workspace_id: UUID, user_id: UUID, role: int) -> None:
    """Gives a member a role. There is one owner at a time."""
    await connection.execute(
        update(members)
        .where(members.c.workspace_id == workspace_id, members.c.user_id == user_id)
        .values(role=role)
    )


async def delete_member(connection: AsyncConnection, workspace_id: UUID, user_id: UUID) -> None:
    """Somebody is not in a workspace any more."""
    await connection.execute(
        delete(members).where(members.c.workspace_id == workspace_id, members.c.user_id == user_id)
    )
