"""Use cases of channels: workspace decides and keeps the names, messaging has the dialog of the same id."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database, constraint
from services.mesh.errors import PermissionDenied
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.paging import DEFAULT_LIMIT, PageTokens
from services.workspace import repository
from services.workspace import repository_channels as rows
from services.workspace.access import Seat, locked_seat, seat
from services.workspace.domain import Channel, ChannelChanges, may_change_channel, name_key, normal_name
from services.workspace.errors import ChannelNameTaken, ChannelNotFound, MemberNotFound, TooManyChannels
from services.workspace.repository_channels import NewChannel
from services.workspace.repository_errands import of_channel, of_member
from services.workspace.service import Counted
from services.workspace.telling import Teller, channel_of


class Channels:
    """Channels and who is in them.

    What makes a channel or puts somebody into one is answered when messaging knows. What closes one or takes
    somebody out counts at once; messaging is told at once, too, or else as soon as it is back.
    """

    def __init__(
        self,
        database: Database,
        idempotency: Idempotency,
        teller: Teller,
        page_key: bytes,
        *,
        max_channels: int,
    ) -> None:
        self._database = database
        self._idempotency = idempotency
        self._teller = teller
        self._page_key = page_key
        self._max_channels = max_channels

    async def create(
        self, user_id: UUID, workspace_id: UUID, given: ChannelChanges, key: Key | None = None
    ) -> Channel:
        """Makes a channel with the caller in it; it is shown as soon as messaging has its dialog.

        Raises WorkspaceNotFound, ChannelNameTaken, TooManyChannels. Raises Unavailable or DeadlineExceeded
        when messaging is away: a repeated request goes on where this one ended, another one begins anew.
        """
        new = _new(user_id, workspace_id, given)
        async with self._database.transaction("create_channel") as connection:
            known = await self._idempotency.claim(connection, key)
            place = await locked_seat(connection, workspace_id, user_id)
            if known is None:
                await self._insert(connection, place, new)
                await self._idempotency.keep(connection, key, new.id.bytes)
            channel_id = UUID(bytes=known) if known else new.id
        await self._teller.tell(of_channel(channel_id), held=known is None)
        return await self.get(user_id, workspace_id, channel_id)

    async def get(self, user_id: UUID, workspace_id: UUID, channel_id: UUID) -> Channel:
        """A channel that the caller may see. Raises WorkspaceNotFound or ChannelNotFound."""
        async with self._database.transaction() as connection:
            await seat(connection, workspace_id, user_id)
            return channel_of(await _seen(connection, workspace_id, channel_id, user_id))

    async def list(self, user_id: UUID, workspace_id: UUID, limit: int, page_token: str) -> Counted[Channel]:
        """Channels that the caller may see, by name. Raises WorkspaceNotFound or PageTokenInvalid."""
        tokens = PageTokens(self._page_key, f"channels:{workspace_id}")
        position = tokens.read(page_token)
        limit = limit or DEFAULT_LIMIT
        async with self._database.transaction() as connection:
            await seat(connection, workspace_id, user_id)
            after = position[0] if position else None
            found = await rows.channels_after(connection, workspace_id, user_id, after, limit + 1)
            total = await rows.count_channels(connection, workspace_id, user_id)
        page = tokens.page([channel_of(row) for row in found], limit, lambda one: (name_key(one.name),))
        return Counted(page, total)

    async def update(
        self,
        user_id: UUID,
        workspace_id: UUID,
        channel_id: UUID,
        changes: ChannelChanges,
        key: Key | None = None,
    ) -> Channel:
        """Changes what is given.

        Raises WorkspaceNotFound, ChannelNotFound, PermissionDenied, ChannelNameTaken.
        """
        async with self._database.transaction("update_channel") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is None:
                await self._changeable(connection, workspace_id, channel_id, user_id)
                if changes.columns:
                    await _change(connection, channel_id, changes, user_id)
            await seat(connection, workspace_id, user_id)
            changed = channel_of(await _seen(connection, workspace_id, channel_id, user_id))
        await self._teller.tell_or_later(of_channel(channel_id))
        return changed

    async def delete(
        self, user_id: UUID, workspace_id: UUID, channel_id: UUID, key: Key | None = None
    ) -> None:
        """Closes a channel for good. Raises WorkspaceNotFound, ChannelNotFound, PermissionDenied."""
        async with self._database.transaction("delete_channel") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            await self._changeable(connection, workspace_id, channel_id, user_id)
            await rows.close_channel(connection, channel_id, change_id=uuid7(), actor_id=user_id)
            await repository.count(connection, workspace_id, rooms=-1)
        await self._teller.tell_or_later(of_channel(channel_id))

    async def join(
        self, user_id: UUID, workspace_id: UUID, channel_id: UUID, key: Key | None = None
    ) -> Channel:
        """Joins a public channel; who is in it stays. Raises WorkspaceNotFound or ChannelNotFound.

        Raises what messaging refuses it with, and Unavailable or DeadlineExceeded when it is away.
        """
        async with self._database.transaction("join_channel") as connection:
            known = await self._idempotency.claim(connection, key)
            await locked_seat(connection, workspace_id, user_id)
            channel = await _seen(connection, workspace_id, channel_id, user_id)
            if known is None:
                await rows.put_in(connection, channel, user_id, change_id=uuid7(), actor_id=user_id)
        await self._teller.tell(of_member(channel_id, user_id))
        return await self.get(user_id, workspace_id, channel_id)

    async def leave(
        self, user_id: UUID, workspace_id: UUID, channel_id: UUID, key: Key | None = None
    ) -> None:
        """Leaves a channel; who is not in it changes nothing. Raises WorkspaceNotFound or ChannelNotFound."""
        async with self._database.transaction("leave_channel") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            await locked_seat(connection, workspace_id, user_id)
            await _seen(connection, workspace_id, channel_id, user_id)
            await rows.take_out(connection, channel_id, user_id, change_id=uuid7(), actor_id=user_id)
        await self._teller.tell_or_later(of_member(channel_id, user_id))

    async def add(
        self,
        actor_id: UUID,
        workspace_id: UUID,
        channel_id: UUID,
        user_id: UUID,
        key: Key | None = None,
    ) -> None:
        """Puts a member of the workspace into a channel that the caller is in.

        Raises WorkspaceNotFound, ChannelNotFound, PermissionDenied, MemberNotFound, and as `join` does.
        """
        async with self._database.transaction("add_to_channel") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is None:
                await locked_seat(connection, workspace_id, actor_id)
                channel = await _seen(connection, workspace_id, channel_id, actor_id)
                if not channel.is_in:
                    raise PermissionDenied("join the channel first")
                if await repository.member(connection, workspace_id, user_id) is None:
                    raise MemberNotFound
                await rows.put_in(connection, channel, user_id, change_id=uuid7(), actor_id=actor_id)
        await self._teller.tell(of_member(channel_id, user_id))

    async def remove(
        self,
        actor_id: UUID,
        workspace_id: UUID,
        channel_id: UUID,
        user_id: UUID,
        key: Key | None = None,
    ) -> None:
        """Takes somebody out of a channel; who is not in it changes nothing.

        Raises WorkspaceNotFound, ChannelNotFound, PermissionDenied.
        """
        async with self._database.transaction("remove_from_channel") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            await self._changeable(connection, workspace_id, channel_id, actor_id)
            await rows.take_out(connection, channel_id, user_id, change_id=uuid7(), actor_id=actor_id)
        await self._teller.tell_or_later(of_member(channel_id, user_id))

    async def _changeable(
        self, connection: AsyncConnection, workspace_id: UUID, channel_id: UUID, user_id: UUID
    ) -> None:
        """Raises PermissionDenied unless the caller may change a channel that they see."""
        place = await locked_seat(connection, workspace_id, user_id)
        channel = await _seen(connection, workspace_id, channel_id, user_id)
        if not may_change_channel(place.role, user_id, channel.created_by):
            raise PermissionDenied("this is for the maker of the channel, and the owner and admins")

    async def _insert(self, connection: AsyncConnection, place: Seat, new: NewChannel) -> None:
        given_up = await rows.give_up(connection, new)
        if place.row.channel_count - given_up >= self._max_channels:
            raise TooManyChannels
        if not await rows.insert_channel(connection, new, self._teller.lease):
            raise ChannelNameTaken
        await repository.count(connection, new.workspace_id, rooms=1 - given_up)


def _new(user_id: UUID, workspace_id: UUID, given: ChannelChanges) -> NewChannel:
    return NewChannel(
        id=uuid7(),
        workspace_id=workspace_id,
        name=normal_name(given.name or ""),
        name_key=name_key(given.name or ""),
        description=given.description or "",
        is_private=bool(given.is_private),
        created_by=user_id,
        change_id=uuid7(),
    )


async def _seen(connection: AsyncConnection, workspace_id: UUID, channel_id: UUID, user_id: UUID) -> Row[Any]:
    row = await rows.channel_of(connection, workspace_id, channel_id, user_id)
    if row is None:
        raise ChannelNotFound
    return row


async def _change(
    connection: AsyncConnection, channel_id: UUID, changes: ChannelChanges, actor_id: UUID
) -> None:
    try:
        await rows.update_channel(
            connection, channel_id, changes.columns, change_id=uuid7(), actor_id=actor_id
        )
    except IntegrityError as error:
        if constraint(error) == "channels_name_key":
            raise ChannelNameTaken from error
        raise
