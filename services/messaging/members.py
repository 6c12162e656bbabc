"""Use cases of members: add, remove, leave, roles, list. Transactions open here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database
from services.mesh.errors import PermissionDenied
from services.mesh.idempotency import Idempotency, Key
from services.mesh.paging import DEFAULT_LIMIT, Page, PageTokens
from services.messaging import events, log, repository, repository_people
from services.messaging.accounts_client import Accounts
from services.messaging.domain import Kind, Member, Role, may_add, may_remove
from services.messaging.errors import (
    Blocked,
    DialogFull,
    DialogKind,
    DialogNotFound,
    MemberNotFound,
)
from services.messaging.publishing import LiveEvent, Publisher


@dataclass(frozen=True, slots=True)
class Members:
    """A page of members, and how many there are on all pages. `small`: everybody sees how far others read."""

    page: Page[Member]
    total: int


async def take_out(
    connection: AsyncConnection, dialog_id: UUID, actor: UUID, user_id: UUID, role: Role
) -> list[LiveEvent]:
    """Takes a member out of a locked dialog; who comes next owns it when the owner goes."""
    removed = events.member_removed(actor, user_id)
    live = await log.append(connection, dialog_id, [removed], members=-1)
    await repository.leave(connection, dialog_id, user_id, live[0].seq)
    heir = await repository.heir(connection, dialog_id) if role is Role.OWNER else None
    if heir is not None:
        await repository.set_role(connection, dialog_id, heir, Role.OWNER)
        change = events.member_role_changed(actor, heir, Role.OWNER)
        live += await log.append(connection, dialog_id, [change])
    return live


async def put_in(
    connection: AsyncConnection, dialog: Row[Any], actor: UUID, user_id: UUID, role: Role
) -> list[LiveEvent]:
    """Puts somebody into a locked dialog. They see all of a channel, and of a group what follows."""
    live = await log.append(connection, dialog.id, [events.member_added(actor, user_id, role)], members=1)
    await repository.enter(
        connection,
        dialog.id,
        [user_id],
        role=role,
        joined_seq=1 if dialog.kind == Kind.CHANNEL else live[0].seq,
        inviter=actor,
        read_no=dialog.message_no,
    )
    return live


class MemberService:
    """Who is in dialogs."""

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        publisher: Publisher,
        page_tokens: PageTokens,
        idempotency: Idempotency,
        *,
        most: int,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._publisher = publisher
        self._page_tokens = page_tokens
        self._idempotency = idempotency
        self._most = most

    async def page(self, viewer: UUID, dialog_id: UUID, limit: int, page_token: str) -> Members:
        """Those with the most rights first, then by time. Raises DialogNotFound or PageTokenInvalid."""
        position = self._page_tokens.read(page_token)
        after = position and (
            Role(int(position[0])),
            datetime.fromisoformat(position[1]),
            UUID(position[2]),
        )
        limit = limit or DEFAULT_LIMIT
        async with self._database.reading() as connection:
            mine = await repository.membership(connection, dialog_id, viewer)
            if mine is None:
                raise DialogNotFound
            found = await repository.ranked(connection, dialog_id, limit + 1, after or None)
        page = self._page_tokens.page(
            found, limit, lambda one: (str(one.role.value), one.joined_at.isoformat(), str(one.user_id))
        )
        return Members(page, mine.member_count)

    async def add(
        self, actor: UUID, dialog_id: UUID, user_id: UUID, role: Role, key: Key | None = None
    ) -> tuple[Member, int]:
        """Adds somebody to a group; who they are in it, and how many there are.

        Raises DialogNotFound, DialogKind, PermissionDenied, UserNotFound, Blocked or DialogFull.
        """
        async with self._database.reading() as connection:
            mine = await repository.membership(connection, dialog_id, actor)
        _may_add(mine, role)
        await self._accounts.require([user_id])
        live: list[LiveEvent] = []
        async with self._database.transaction("add_member") as connection:
            if await self._idempotency.claim(connection, key) is None:
                dialog = await log.locked(connection, dialog_id)
                _may_add(await repository.membership(connection, dialog_id, actor), role)
                if await repository.membership(connection, dialog_id, user_id) is None:
                    if await repository_people.blocked_among(connection, actor, [user_id]):
                        raise Blocked
                    if dialog.member_count >= self._most:
                        raise DialogFull
                    live = await put_in(connection, dialog, actor, user_id, role)
            shown = await _member(connection, dialog_id, user_id)
        if live:
            self._publisher.joined(dialog_id, [user_id])
            self._publisher.events(live)
        return shown

    async def remove(self, actor: UUID, dialog_id: UUID, user_id: UUID, key: Key | None = None) -> None:
        """Removes somebody from a group.

        Raises DialogNotFound, DialogKind, PermissionDenied or MemberNotFound.
        """
        async with self._database.transaction("remove_member") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            dialog, role = await log.entered(connection, dialog_id, actor)
            if dialog.kind != Kind.GROUP:
                raise DialogKind
            theirs = await repository.membership(connection, dialog_id, user_id)
            if actor != user_id:
                if not role.leads:
                    raise PermissionDenied("this is for the owner and the admins of the group")
                if theirs is None:
                    raise MemberNotFound
                if not may_remove(role, Role(theirs.role)):
                    raise PermissionDenied("this is for the owner of the group")
            live = await take_out(
                connection, dialog_id, actor, user_id, role if theirs is None else Role(theirs.role)
            )
        self._tell_left(dialog_id, user_id, live)

    async def leave(self, actor: UUID, dialog_id: UUID, key: Key | None = None) -> None:
        """Leaves a group. Raises DialogNotFound or DialogKind."""
        async with self._database.transaction("leave_dialog") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            dialog, role = await log.entered(connection, dialog_id, actor)
            if dialog.kind == Kind.DIRECT:
                raise DialogKind("a direct dialog cannot be left")
            if dialog.kind == Kind.CHANNEL:
                # The workspace says who is in its channels, and must know.
                raise DialogKind("leave a channel by its workspace")
            live = await take_out(connection, dialog_id, actor, actor, role)
        self._tell_left(dialog_id, actor, live)

    async def set_role(
        self, actor: UUID, dialog_id: UUID, user_id: UUID, role: Role, key: Key | None = None
    ) -> tuple[Member, int]:
        """Gives a member another role; who makes somebody else the owner becomes an admin.

        Raises DialogNotFound, DialogKind, PermissionDenied or MemberNotFound.
        """
        live: list[LiveEvent] = []
        async with self._database.transaction("set_role") as connection:
            if await self._idempotency.claim(connection, key) is None:
                dialog, mine = await log.entered(connection, dialog_id, actor)
                if dialog.kind != Kind.GROUP:
                    raise DialogKind
                if mine is not Role.OWNER:
                    raise PermissionDenied("this is for the owner of the group")
                theirs = await repository.membership(connection, dialog_id, user_id)
                if theirs is None:
                    raise MemberNotFound
                roles = _roles(actor, user_id, Role(theirs.role), role)
                changes = []
                for one, given in roles.items():
                    await repository.set_role(connection, dialog_id, one, given)
                    changes.append(events.member_role_changed(actor, one, given))
                live = await log.append(connection, dialog_id, changes) if changes else []
            shown = await _member(connection, dialog_id, user_id)
        self._publisher.events(live)
        return shown

    def _tell_left(self, dialog_id: UUID, user_id: UUID, live: list[LiveEvent]) -> None:
        self._publisher.events(live)
        self._publisher.left(dialog_id, [user_id], live[0].seq)


def _may_add(mine: Row[Any] | None, role: Role) -> None:
    if mine is None:
        raise DialogNotFound
    if mine.kind != Kind.GROUP:
        raise DialogKind
    if not may_add(Role(mine.role), role):
        raise PermissionDenied(
            "this is for the owner and the admins of the group; admins are made by the owner"
        )


def _roles(owner: UUID, user_id: UUID, has: Role, role: Role) -> dict[UUID, Role]:
    """Who gets which role when the owner gives one to somebody; there is always one owner."""
    if has is role:
        return {}
    if user_id == owner:
        raise PermissionDenied("make somebody else the owner first")
    return {user_id: role, owner: Role.ADMIN} if role is Role.OWNER else {user_id: role}


async def _member(connection: AsyncConnection, dialog_id: UUID, user_id: UUID) -> tuple[Member, int]:
    row = await repository.membership(connection, dialog_id, user_id)
    if row is None:
        raise MemberNotFound
    return repository.member(row), row.member_count
