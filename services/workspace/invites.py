"""Use cases of invites: codes by which people join. A code is derived from its invite and lies nowhere."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database
from services.mesh.errors import Unavailable
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.paging import DEFAULT_LIMIT, Page, PageTokens
from services.mesh.vault import Vault, keyed_hash
from services.workspace import repository, repository_errands, repository_invites
from services.workspace.access import locked_seat, seat
from services.workspace.domain import Invite, Role, Workspace
from services.workspace.errors import InviteNotFound, TooManyInvites, WorkspaceFull
from services.workspace.repository_errands import of_removal
from services.workspace.service import room_for_one_more, shown
from services.workspace.telling import Teller

# 160 bits: nobody guesses one.
_CODE_BYTES = 20


class Codes:
    """Codes of invites, and what of them lies in the database. Both by keys of the vault."""

    def __init__(self, vault: Vault) -> None:
        self._making = vault.derive("invite-code")
        self._finding = vault.derive("invite-hash")

    def of(self, invite_id: UUID) -> str:
        """The code of an invite, always the same: base64url, 27 characters."""
        made = keyed_hash(self._making, str(invite_id))[:_CODE_BYTES]
        return base64.urlsafe_b64encode(made).rstrip(b"=").decode()

    def hash(self, code: str) -> bytes:
        """By what an invite is found."""
        return keyed_hash(self._finding, code)


class Invites:
    """Invites, and joining by them."""

    def __init__(
        self,
        database: Database,
        idempotency: Idempotency,
        codes: Codes,
        teller: Teller,
        page_key: bytes,
        *,
        max_members: int,
        max_invites: int,
        max_workspaces: int,
    ) -> None:
        self._database = database
        self._idempotency = idempotency
        self._codes = codes
        self._teller = teller
        self._page_key = page_key
        self._max_members = max_members
        self._max_invites = max_invites
        self._max_workspaces = max_workspaces

    async def create(
        self, user_id: UUID, workspace_id: UUID, uses: int, life: timedelta, key: Key | None = None
    ) -> Invite:
        """Makes an invite. Raises WorkspaceNotFound, PermissionDenied, TooManyInvites.

        A repeated request is answered with the same code, or with InviteNotFound when it was revoked since.
        """
        async with self._database.transaction("create_invite") as connection:
            known = await self._idempotency.claim(connection, key)
            (await locked_seat(connection, workspace_id, user_id)).must_manage()
            invite_id = UUID(bytes=known) if known else uuid7()
            if known is None:
                await self._insert(connection, invite_id, workspace_id, uses, life, user_id)
                await self._idempotency.keep(connection, key, invite_id.bytes)
            row = await repository_invites.invite(connection, workspace_id, invite_id)
        if row is None or row.revoked_at is not None:
            raise InviteNotFound
        return _invite(row, self._codes.of(invite_id))

    async def list(self, user_id: UUID, workspace_id: UUID, limit: int, page_token: str) -> Page[Invite]:
        """Invites that work, newest first, without codes.

        Raises WorkspaceNotFound, PermissionDenied, PageTokenInvalid.
        """
        tokens = PageTokens(self._page_key, f"invites:{workspace_id}")
        position = tokens.read(page_token)
        before = UUID(position[0]) if position else None
        limit = limit or DEFAULT_LIMIT
        async with self._database.transaction() as connection:
            (await seat(connection, workspace_id, user_id)).must_manage()
            found = await repository_invites.working_before(connection, workspace_id, before, limit + 1)
        return tokens.page([_invite(row) for row in found], limit, lambda one: (str(one.id),))

    async def revoke(
        self, user_id: UUID, workspace_id: UUID, invite_id: UUID, key: Key | None = None
    ) -> None:
        """Ends an invite, also one that had ended.

        Raises WorkspaceNotFound, PermissionDenied, InviteNotFound.
        """
        async with self._database.transaction("revoke_invite") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            (await locked_seat(connection, workspace_id, user_id)).must_manage()
            if await repository_invites.invite(connection, workspace_id, invite_id) is None:
                raise InviteNotFound
            await repository_invites.revoke(connection, invite_id)

    async def accept(self, user_id: UUID, code: str, key: Key | None = None) -> Workspace:
        """Joins by a code. Who is in it already stays, and the code is not used up.

        Raises InviteNotFound, WorkspaceFull, TooManyWorkspaces. Raises Unavailable for somebody who has left
        while messaging was away, and of whom it has not been told yet.
        """
        await self._tell_of_leaving(user_id, code)
        async with self._database.transaction("accept_invite") as connection:
            known = await self._idempotency.claim(connection, key)
            workspace_id = UUID(bytes=known) if known else await self._join(connection, user_id, code)
            await self._idempotency.keep(connection, key, workspace_id.bytes)
            return shown((await seat(connection, workspace_id, user_id)).row)

    async def _tell_of_leaving(self, user_id: UUID, code: str) -> None:
        """Who comes back is not taken out of channels by what was said of them before."""
        async with self._database.transaction() as connection:
            row = await repository_invites.invite_by_code(connection, self._codes.hash(code))
            left = row is not None and await repository_errands.is_untold(
                connection, of_removal(row.workspace_id, user_id)
            )
        if row is not None and left:
            await self._teller.tell(of_removal(row.workspace_id, user_id))

    async def _join(self, connection: AsyncConnection, user_id: UUID, code: str) -> UUID:
        found = await repository_invites.invite_by_code(connection, self._codes.hash(code))
        if found is None:
            raise InviteNotFound
        workspace_id: UUID = found.workspace_id
        await repository.lock_person(connection, user_id)
        await repository.lock_workspace(connection, workspace_id)
        if await repository.member(connection, workspace_id, user_id) is not None:
            return workspace_id
        await room_for_one_more(connection, user_id, self._max_workspaces)
        if not await repository_invites.use_invite(connection, found.id):
            raise InviteNotFound
        if await repository_errands.is_untold(connection, of_removal(workspace_id, user_id)):
            raise Unavailable
        await repository.insert_member(connection, workspace_id, user_id, Role.MEMBER)
        await repository.count(connection, workspace_id, people=1)
        row = (await seat(connection, workspace_id, user_id)).row
        if row.member_count > self._max_members:
            raise WorkspaceFull
        return workspace_id

    async def _insert(
        self,
        connection: AsyncConnection,
        invite_id: UUID,
        workspace_id: UUID,
        uses: int,
        life: timedelta,
        user_id: UUID,
    ) -> None:
        if await repository_invites.count_working(connection, workspace_id) >= self._max_invites:
            raise TooManyInvites
        await repository_invites.insert_invite(
            connection,
            invite_id,
            workspace_id,
            self._codes.hash(self._codes.of(invite_id)),
            uses=uses,
            life=life,
            created_by=user_id,
        )


def _invite(row: Row[Any], code: str = "") -> Invite:
    return Invite(
        id=row.id,
        uses_left=row.uses_left,
        expires_at=row.expires_at,
        created_by=row.created_by,
        created_at=row.created_at,
        code=code,
    )
