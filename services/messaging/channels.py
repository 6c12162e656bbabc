"""Use cases for other services: channels. Transactions open here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Key
from services.messaging import dialogs, events, log, repository
from services.messaging.domain import Kind, Role
from services.messaging.errors import DialogFull, DialogKind
from services.messaging.members import put_in, take_out
from services.messaging.publishing import LiveEvent, Publisher


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as its workspace describes it."""

    dialog_id: UUID
    title: str
    description: str
    is_private: bool


class ChannelService:
    """Dialogs of workspaces. Whatever is done twice has one effect, by the ids of what it is about.

    Calls under a `request_id` have it also when something else has happened in between.
    """

    def __init__(
        self, database: Database, publisher: Publisher, idempotency: Idempotency, *, most: int
    ) -> None:
        self._database = database
        self._idempotency = idempotency
        self._publisher = publisher
        self._most = most

    async def create(
        self,
        channel: Channel,
        workspace_id: UUID,
        maker: UUID,
        others: Sequence[UUID],
        key: Key | None = None,
    ) -> None:
        """Makes a channel with its first members; nothing happens when it is there."""
        new = dialogs.NewDialog(
            Kind.CHANNEL, maker, tuple(dict.fromkeys(one for one in others if one != maker)), channel.title
        )
        async with self._database.transaction("create_channel") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            if not await repository.insert_dialog(
                connection,
                channel.dialog_id,
                Kind.CHANNEL,
                maker,
                title=channel.title,
                description=channel.description,
                workspace_id=workspace_id,
                is_private=channel.is_private,
            ):
                return
            live = await dialogs.fill(connection, new, channel.dialog_id)
        self._publisher.joined(channel.dialog_id, new.people)
        self._publisher.events(live)

    async def update(self, channel: Channel, actor: UUID, key: Key | None = None) -> None:
        """What a channel is called. Raises DialogNotFound or DialogKind."""
        live: list[LiveEvent] = []
        named = (channel.title, channel.description)
        async with self._database.transaction("update_channel") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            dialog = await log.locked(connection, channel.dialog_id)
            _require_channel(dialog.kind)
            await repository.describe(connection, channel.dialog_id, *named, is_private=channel.is_private)
            if named != (dialog.title, dialog.description):
                change = events.dialog_updated(actor, *named)
                live = await log.append(connection, channel.dialog_id, [change])
        self._publisher.events(live)

    async def close(self, dialog_id: UUID, key: Key | None = None) -> None:
        """Closes a channel: nobody is in it any more. Nothing happens when there is none."""
        gone: Sequence[UUID] = ()
        async with self._database.transaction("delete_channel") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            dialog = await repository.lock(connection, dialog_id)
            if dialog is not None:
                _require_channel(dialog.kind)
                gone = await repository.close(connection, dialog_id, dialog.seq)
        if dialog is not None:
            self._publisher.left(dialog_id, gone, dialog.seq)

    async def add(
        self, dialog_id: UUID, actor: UUID, user_id: UUID, role: Role, key: Key | None = None
    ) -> None:
        """Adds somebody to a channel; who is in it stays. Raises DialogNotFound, DialogKind or DialogFull."""
        live: list[LiveEvent] = []
        async with self._database.transaction("add_to_channel") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            dialog = await log.locked(connection, dialog_id)
            _require_channel(dialog.kind)
            if await repository.membership(connection, dialog_id, user_id) is None:
                if dialog.member_count >= self._most:
                    raise DialogFull
                live = await put_in(connection, dialog, actor, user_id, role)
        if live:
            self._publisher.joined(dialog_id, [user_id])
            self._publisher.events(live)

    async def remove(
        self,
        workspace_id: UUID,
        actor: UUID,
        user_id: UUID,
        dialog_id: UUID | None,
        key: Key | None = None,
    ) -> None:
        """Takes somebody out of one channel of a workspace, or of all."""
        live: list[LiveEvent] = []
        async with self._database.transaction("remove_from_channels") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            found = await repository.in_workspace(connection, workspace_id, user_id)
            # Who locks several does so in the order of their ids.
            for one in sorted(found, key=lambda each: each.int):
                if dialog_id is None or one == dialog_id:
                    live += await _taken_out(connection, one, actor, user_id)
        self._publisher.events(live)
        for event in live:
            self._publisher.left(event.dialog_id, [user_id], event.seq)


async def _taken_out(
    connection: AsyncConnection, dialog_id: UUID, actor: UUID, user_id: UUID
) -> list[LiveEvent]:
    if await repository.lock(connection, dialog_id) is None:
        return []
    theirs = await repository.membership(connection, dialog_id, user_id)
    if theirs is None:
        return []
    return await take_out(connection, dialog_id, actor, user_id, Role(theirs.role))


def _require_channel(kind: int) -> None:
    if kind != Kind.CHANNEL:
        raise DialogKind("this is only for channels")
