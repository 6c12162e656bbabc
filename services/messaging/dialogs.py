"""Use cases of dialogs: begin, show, list, rename, mute. Transactions open here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database
from services.mesh.errors import PermissionDenied
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.paging import DEFAULT_LIMIT, Page, PageTokens
from services.messaging import events, log, repository, repository_people
from services.messaging.accounts_client import Accounts
from services.messaging.domain import SMALL, Dialog, Kind, Role, direct_key
from services.messaging.errors import Blocked, DialogFull, DialogKind, DialogNotFound, wrong
from services.messaging.publishing import LiveEvent, Publisher


@dataclass(frozen=True, slots=True)
class Dialogs:
    """A page of dialogs, and how many there are on all pages."""

    page: Page[Dialog]
    total: int


@dataclass(frozen=True, slots=True)
class NewDialog:
    """Who shall talk. A direct dialog is that of its maker and one other."""

    kind: Kind
    maker: UUID
    others: tuple[UUID, ...]
    title: str = ""

    @property
    def people(self) -> list[UUID]:
        """All of them."""
        return [self.maker, *self.others]

    @property
    def key(self) -> bytes | None:
        """What there is once for two people."""
        return direct_key(self.maker, self.others[0]) if self.kind is Kind.DIRECT else None


def wanted(maker: UUID, participants: Sequence[UUID], title: str, kind: str) -> NewDialog:
    """What a request asks for. The maker counts anyway, named or not. Raises InvalidArgument."""
    others = tuple(dict.fromkeys(one for one in participants if one != maker))
    if not others:
        raise wrong("participants", "participants.others", "must name somebody other than you")
    if kind == "direct" or (not kind and not title and len(others) == 1):
        if len(others) != 1:
            raise wrong("participants", "participants.direct", "must be one person for a direct dialog")
        return NewDialog(Kind.DIRECT, maker, others)
    return NewDialog(Kind.GROUP, maker, others, title)


async def found_direct(
    connection: AsyncConnection, new: NewDialog, dialog_id: UUID
) -> tuple[UUID, list[LiveEvent]]:
    """The direct dialog of two people, made under an id when there is none; and what is to be told of it.

    Of any number at once, one makes it.
    """
    key = new.key
    if key is None:
        raise ValueError("only two people have a direct dialog")
    if not await repository.insert_dialog(connection, dialog_id, Kind.DIRECT, new.maker, direct_key=key):
        found = await repository.direct_dialog(connection, key)
        if found is None:
            raise DialogNotFound
        return found, []
    return dialog_id, await fill(connection, new, dialog_id)


async def fill(connection: AsyncConnection, new: NewDialog, dialog_id: UUID) -> list[LiveEvent]:
    """Puts the first members into a dialog that was just made."""
    first = Role.MEMBER if new.kind is Kind.DIRECT else Role.OWNER
    for users, role in (([new.maker], first), (list(new.others), Role.MEMBER)):
        await repository.enter(
            connection, dialog_id, users, role=role, joined_seq=1, inviter=new.maker, read_no=0
        )
    change = events.dialog_created(new.maker, new.kind, new.title, new.people)
    return await log.append(connection, dialog_id, [change], members=len(new.people))


class DialogService:
    """Dialogs as their members see them."""

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

    async def create(self, new: NewDialog, key: Key | None = None) -> tuple[Dialog, bool]:
        """Begins a dialog; whether it was made now. Raises UserNotFound, DialogFull or Blocked.

        A repeated request is answered as the first one, with the dialog as it is now.
        """
        if len(new.people) > self._most:
            raise DialogFull
        if not await self._is_there(new):
            await self._accounts.require(new.others)
        dialog_id, live = uuid7(), list[LiveEvent]()
        async with self._database.transaction("create_dialog") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is None:
                dialog_id, live = await self._make(connection, new, dialog_id)
                made = bool(live)
                await self._idempotency.keep(connection, key, dialog_id.bytes + bytes((made,)))
            else:
                dialog_id, made = UUID(bytes=known[:16]), bool(known[16])
            shown = await _shown(connection, dialog_id, new.maker)
        if live:
            self._publisher.joined(dialog_id, new.people)
            self._publisher.events(live)
        return shown, made

    async def _is_there(self, new: NewDialog) -> bool:
        """Whether nobody need be asked for: two who have a dialog have accounts."""
        if new.key is None:
            return False
        async with self._database.reading() as connection:
            return await repository.direct_dialog(connection, new.key) is not None

    async def _make(
        self, connection: AsyncConnection, new: NewDialog, dialog_id: UUID
    ) -> tuple[UUID, list[LiveEvent]]:
        if new.kind is Kind.DIRECT:
            found, live = await found_direct(connection, new, dialog_id)
        else:
            await repository.insert_dialog(connection, dialog_id, new.kind, new.maker, title=new.title)
            found, live = dialog_id, await fill(connection, new, dialog_id)
        # In a dialog that was there already, one can still read.
        if live and await repository_people.blocked_among(connection, new.maker, new.others):
            raise Blocked
        return found, live

    async def get(self, user_id: UUID, dialog_id: UUID) -> Dialog:
        """One dialog. Raises DialogNotFound."""
        async with self._database.reading() as connection:
            return await _shown(connection, dialog_id, user_id)

    async def list(self, user_id: UUID, limit: int, page_token: str) -> Dialogs:
        """Somebody's dialogs, those with the newest event first. Raises PageTokenInvalid."""
        position = self._page_tokens.read(page_token)
        limit = limit or DEFAULT_LIMIT
        async with self._database.reading() as connection:
            mine = await repository.dialogs_of(connection, user_id)
            places = [(row.active_at, row.id) for row in mine]
            if position is not None:
                after = (datetime.fromisoformat(position[0]), UUID(position[1]))
                places = [place for place in places if place < after]
            page = self._page_tokens.page(
                places[: limit + 1], limit, lambda place: (place[0].isoformat(), str(place[1]))
            )
            ids = [place[1] for place in page.items]
            found = await repository.shown(connection, user_id, ids, SMALL) if ids else {}
        shown = [found[one] for one in ids if one in found]
        return Dialogs(Page(shown, page.next_page_token), len(mine))

    async def update(
        self,
        user_id: UUID,
        dialog_id: UUID,
        title: str | None,
        description: str | None,
        key: Key | None = None,
    ) -> Dialog:
        """Renames a group. Raises DialogNotFound, DialogKind or PermissionDenied."""
        live: list[LiveEvent] = []
        async with self._database.transaction("update_dialog") as connection:
            if await self._idempotency.claim(connection, key) is None:
                dialog, role = await log.entered(connection, dialog_id, user_id)
                if dialog.kind != Kind.GROUP:
                    raise DialogKind
                if not role.leads:
                    raise PermissionDenied("this is for the owner and the admins of the group")
                now = (
                    dialog.title if title is None else title,
                    dialog.description if description is None else description,
                )
                if now != (dialog.title, dialog.description):
                    await repository.describe(connection, dialog_id, *now, is_private=dialog.is_private)
                    live = await log.append(connection, dialog_id, [events.dialog_updated(user_id, *now)])
            shown = await _shown(connection, dialog_id, user_id)
        self._publisher.events(live)
        return shown

    async def mute(self, user_id: UUID, dialog_id: UUID, *, muted: bool, key: Key | None = None) -> Dialog:
        """Whether somebody wants no notifications of a dialog. Raises DialogNotFound."""
        async with self._database.transaction("mute_dialog") as connection:
            if await self._idempotency.claim(connection, key) is None:
                await repository.set_muted(connection, dialog_id, user_id, muted=muted)
            return await _shown(connection, dialog_id, user_id)


async def _shown(connection: AsyncConnection, dialog_id: UUID, user_id: UUID) -> Dialog:
    found = await repository.shown(connection, user_id, [dialog_id], SMALL)
    if dialog_id not in found:
        raise DialogNotFound
    return found[dialog_id]
