"""Use cases of workspaces and their members. Transactions open here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database, constraint
from services.mesh.errors import PermissionDenied
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.paging import DEFAULT_LIMIT, Page, PageTokens
from services.workspace import repository, repository_channels, repository_errands, repository_invites
from services.workspace.access import Seat, locked_seat, seat
from services.workspace.domain import Member, Role, Workspace, WorkspaceChanges, normal_name
from services.workspace.errors import MemberNotFound, OwnerCannotLeave, SlugTaken, TooManyWorkspaces
from services.workspace.events import Events
from services.workspace.telling import Teller

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Counted(Generic[Item]):
    """A page, and how many there are on all pages."""

    page: Page[Item]
    total: int


class WorkspaceService:
    """Workspaces and who is in them. `wake` has messaging told of many things soon, in the background."""

    def __init__(
        self,
        database: Database,
        idempotency: Idempotency,
        events: Events,
        teller: Teller,
        wake: Callable[[], None],
        page_key: bytes,
        *,
        max_workspaces: int,
    ) -> None:
        self._database = database
        self._idempotency = idempotency
        self._events = events
        self._teller = teller
        self._wake = wake
        self._page_key = page_key
        self._max_workspaces = max_workspaces

    async def create(
        self, user_id: UUID, name: str, slug: str, description: str, key: Key | None = None
    ) -> Workspace:
        """Makes a workspace, owned by the caller. Raises SlugTaken or TooManyWorkspaces."""
        async with self._database.transaction("create") as connection:
            known = await self._idempotency.claim(connection, key)
            workspace_id = UUID(bytes=known) if known else uuid7()
            if known is None:
                await room_for_one_more(connection, user_id, self._max_workspaces)
                given = (normal_name(name), slug, description)
                if not await repository.insert_workspace(connection, workspace_id, user_id, *given):
                    raise SlugTaken
                await repository.insert_member(connection, workspace_id, user_id, Role.OWNER)
                await repository.count(connection, workspace_id, people=1)
                await self._idempotency.keep(connection, key, workspace_id.bytes)
            return shown((await seat(connection, workspace_id, user_id)).row)

    async def get(self, user_id: UUID, workspace_id: UUID) -> Workspace:
        """A workspace that the caller is in. Raises WorkspaceNotFound."""
        async with self._database.transaction() as connection:
            return shown((await seat(connection, workspace_id, user_id)).row)

    async def list(self, user_id: UUID, limit: int, page_token: str) -> Counted[Workspace]:
        """The caller's workspaces, newest first. Raises PageTokenInvalid."""
        tokens = PageTokens(self._page_key, f"workspaces:{user_id}")
        position = tokens.read(page_token)
        before = UUID(position[0]) if position else None
        limit = limit or DEFAULT_LIMIT
        async with self._database.transaction() as connection:
            found = await repository.workspaces_of(connection, user_id, before, limit + 1)
            total = await repository.count_workspaces_of(connection, user_id)
        page = tokens.page([shown(row) for row in found], limit, lambda one: (str(one.id),))
        return Counted(page, total)

    async def update(
        self, user_id: UUID, workspace_id: UUID, changes: WorkspaceChanges, key: Key | None = None
    ) -> Workspace:
        """Changes what is given. Raises WorkspaceNotFound, PermissionDenied or SlugTaken."""
        async with self._database.transaction("update") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is None:
                (await locked_seat(connection, workspace_id, user_id)).must_manage()
                if changes.columns:
                    await _change(connection, workspace_id, changes)
            return shown((await seat(connection, workspace_id, user_id)).row)

    async def delete(self, user_id: UUID, workspace_id: UUID, key: Key | None = None) -> None:
        """Closes a workspace and its channels. Raises WorkspaceNotFound or PermissionDenied."""
        async with self._database.transaction("delete") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            (await locked_seat(connection, workspace_id, user_id)).must_own()
            await self._events.workspace_deleted(connection, workspace_id, user_id)
            await repository_channels.close_channels(connection, workspace_id, user_id)
            await repository_invites.delete_invites(connection, workspace_id)
            await repository.delete_workspace(connection, workspace_id)
        self._wake()

    async def members(
        self, user_id: UUID, workspace_id: UUID, limit: int, page_token: str
    ) -> Counted[Member]:
        """Members, those with the most rights first. Raises WorkspaceNotFound or PageTokenInvalid."""
        tokens = PageTokens(self._page_key, f"members:{workspace_id}")
        position = tokens.read(page_token)
        after = _place(position) if position else None
        limit = limit or DEFAULT_LIMIT
        async with self._database.transaction() as connection:
            row = (await seat(connection, workspace_id, user_id)).row
            found = await repository.members_after(connection, workspace_id, after, limit + 1)
        page = tokens.page([_member(one) for one in found], limit, _position)
        return Counted(page, row.member_count)

    async def set_role(
        self, actor_id: UUID, workspace_id: UUID, user_id: UUID, role: Role, key: Key | None = None
    ) -> Member:
        """Gives a member another role; who makes somebody else the owner becomes an admin.

        Raises WorkspaceNotFound, PermissionDenied, MemberNotFound, OwnerCannotLeave for the owner's own role.
        """
        async with self._database.transaction("set_role") as connection:
            known = await self._idempotency.claim(connection, key)
            actor = await locked_seat(connection, workspace_id, actor_id)
            if known is None:
                actor.must_own()
                await _found(connection, workspace_id, user_id)
                await _give_role(connection, actor, user_id, role)
            return _member(await _found(connection, workspace_id, user_id))

    async def remove(self, actor_id: UUID, workspace_id: UUID, user_id: UUID, key: Key | None = None) -> None:
        """Removes somebody from a workspace and all its channels.

        Raises WorkspaceNotFound, PermissionDenied, MemberNotFound, OwnerCannotLeave for the owner themselves.
        """
        async with self._database.transaction("remove") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            actor = await locked_seat(connection, workspace_id, actor_id)
            actor.must_manage()
            other = Role((await _found(connection, workspace_id, user_id)).role)
            if user_id != actor_id and not actor.role.may_remove(other):
                raise PermissionDenied("you may not remove this person")
            await self._take_out(connection, workspace_id, user_id, other, actor_id)
        await self._teller.tell_or_later(repository_errands.of_removal(workspace_id, user_id))

    async def leave(self, user_id: UUID, workspace_id: UUID, key: Key | None = None) -> None:
        """Leaves a workspace and all its channels. Raises WorkspaceNotFound or OwnerCannotLeave."""
        async with self._database.transaction("leave") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            role = (await locked_seat(connection, workspace_id, user_id)).role
            await self._take_out(connection, workspace_id, user_id, role, user_id)
        await self._teller.tell_or_later(repository_errands.of_removal(workspace_id, user_id))

    async def _take_out(
        self, connection: AsyncConnection, workspace_id: UUID, user_id: UUID, role: Role, actor_id: UUID
    ) -> None:
        if role is Role.OWNER:
            raise OwnerCannotLeave
        await self._events.member_removed(connection, workspace_id, user_id, actor_id)
        await repository.delete_member(connection, workspace_id, user_id)
        closed = await repository_channels.take_out_of_all(
            connection, workspace_id, user_id, actor_id=actor_id
        )
        await repository.count(connection, workspace_id, people=-1, rooms=-closed)
        await repository_errands.add_removal(
            connection, workspace_id, user_id, change_id=uuid7(), actor_id=actor_id
        )


async def room_for_one_more(connection: AsyncConnection, user_id: UUID, most: int) -> None:
    """Raises TooManyWorkspaces for somebody who is in as many as they may; exact however many ask at once."""
    await repository.lock_person(connection, user_id)
    if await repository.count_workspaces_of(connection, user_id) >= most:
        raise TooManyWorkspaces


async def _change(connection: AsyncConnection, workspace_id: UUID, changes: WorkspaceChanges) -> None:
    try:
        await repository.update_workspace(connection, workspace_id, changes.columns)
    except IntegrityError as error:
        if constraint(error) == "workspaces_slug_key":
            raise SlugTaken from error
        raise


async def _found(connection: AsyncConnection, workspace_id: UUID, user_id: UUID) -> Row[Any]:
    row = await repository.member(connection, workspace_id, user_id)
    if row is None:
        raise MemberNotFound
    return row


async def _give_role(connection: AsyncConnection, actor: Seat, user_id: UUID, role: Role) -> None:
    workspace_id = actor.row.id
    if user_id == actor.user_id:
        if role is not Role.OWNER:
            raise OwnerCannotLeave
        return
    if role is Role.OWNER:
        # There is one owner at a time, also between two statements.
        await repository.set_role(connection, workspace_id, actor.user_id, Role.ADMIN)
        await repository.update_workspace(connection, workspace_id, {"owner_id": user_id})
    await repository.set_role(connection, workspace_id, user_id, role)


def shown(row: Row[Any]) -> Workspace:
    """A workspace of its row with what is one member's in it."""
    return Workspace(
        id=row.id,
        name=row.name,
        slug=row.slug,
        description=row.description,
        owner_id=row.owner_id,
        created_at=row.created_at,
        member_count=row.member_count,
        role=Role(row.role),
    )


def _member(row: Row[Any]) -> Member:
    return Member(row.user_id, Role(row.role), row.joined_at)


def _position(member: Member) -> tuple[str, str, str]:
    return (str(int(member.role)), member.joined_at.isoformat(), str(member.user_id))


def _place(position: tuple[str, ...]) -> tuple[int, datetime, UUID]:
    return int(position[0]), datetime.fromisoformat(position[1]), UUID(position[2])
