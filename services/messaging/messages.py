"""Use cases of messages: write, show, list, edit, delete. Transactions open here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database
from services.mesh.errors import PermissionDenied, SampanError, Unavailable
from services.mesh.group_commit import GroupCommit
from services.mesh.idempotency import Idempotency, Key
from services.mesh.lanes import Answer
from services.mesh.paging import DEFAULT_LIMIT
from services.messaging import events, log, repository, repository_messages, repository_people
from services.messaging.domain import Draft, Edit, Kind, Message, MessageId, Role
from services.messaging.errors import (
    Blocked,
    DialogNotFound,
    MessageDeleted,
    MessageNotFound,
    ReplyNotFound,
)
from services.messaging.posting import Posted
from services.messaging.publishing import LiveEvent, Publisher
from services.messaging.repository_messages import Seen, Where

# Above every number.
_END = (1 << 63) - 1
_MOST_EDITS = 100

Posting = GroupCommit[Draft, Posted]


@dataclass(frozen=True, slots=True)
class Messages:
    """Some messages of a dialog, and whether there are more in the direction that was asked for."""

    items: Sequence[Message]
    has_more: bool


class MessageService:
    """What is said in dialogs."""

    def __init__(
        self, database: Database, posting: Posting, publisher: Publisher, idempotency: Idempotency
    ) -> None:
        self._database = database
        self._posting = posting
        self._publisher = publisher
        self._idempotency = idempotency

    async def send(self, draft: Draft) -> Posted:
        """Writes a message, once for each id that its sender gives it.

        Raises DialogNotFound, Blocked, ReplyNotFound, ClientMessageIdReused, Overloaded or OutcomeUnknown.
        """
        return await self._posting.submit(draft, lane=draft.dialog_id)

    def begin(self, draft: Draft, ends: float, answer: Answer[Posted | SampanError]) -> None:
        """The same without a task for each: `answer` hears of errors, but for Overloaded and Unavailable.

        `ends`, of time.perf_counter, is when it must have begun.
        """
        self._posting.enter(draft, lane=draft.dialog_id, ends=ends, answer=answer)

    async def known(self, draft: Draft, posted: Posted) -> Message:
        """A message that was there already when it was sent, as it is now."""
        async with self._database.reading() as connection:
            if not posted.dropped:
                found = await repository_messages.of_sender(
                    connection, (draft.dialog_id, posted.seq), draft.sender_id
                )
                if found is not None:
                    return found
            left = await repository_messages.dropped(
                connection, draft.dialog_id, draft.sender_id, draft.client_message_id
            )
        if left is None:
            raise Unavailable
        return left

    async def get(self, viewer: UUID, where: MessageId) -> Message:
        """One message. Raises MessageNotFound."""
        async with self._database.reading() as connection:
            return (await seen(connection, where, viewer)).message

    async def page(
        self,
        viewer: UUID,
        dialog_id: UUID,
        *,
        before: int = 0,
        after: int = 0,
        limit: int = 0,
        thread: int | None = None,
    ) -> Messages:
        """Messages by number, lowest first: the newest, those before a number, or those after one.

        Raises DialogNotFound, or ReplyNotFound for a thread that is not of this dialog.
        """
        limit = limit or DEFAULT_LIMIT
        async with self._database.reading() as connection:
            mine = await repository.membership(connection, dialog_id, viewer)
            if mine is None:
                raise DialogNotFound
            if thread is not None:
                thread = await _root(connection, (dialog_id, thread), viewer)
            found = await repository_messages.page(
                connection,
                dialog_id,
                viewer,
                after=max(after, mine.joined_seq - 1),
                before=before or _END,
                limit=limit + 1,
                thread=thread,
                newest=not after,
            )
        shown = found[:limit]
        return Messages(shown if after else shown[::-1], len(found) > limit)

    async def edit(
        self,
        actor: UUID,
        where: MessageId,
        text: str,
        mentions: Sequence[UUID],
        key: Key | None = None,
    ) -> Message:
        """Changes one's own text. Raises MessageNotFound, PermissionDenied, MessageDeleted or Blocked."""
        live: list[LiveEvent] = []
        async with self._database.transaction("edit_message") as connection:
            if await self._idempotency.claim(connection, key) is None:
                found = await _own(connection, where, actor)
                live = await self._edit(connection, actor, found, text, mentions)
            shown = await seen(connection, where, actor)
        self._publisher.events(live)
        return shown.message

    async def _edit(
        self, connection: AsyncConnection, actor: UUID, found: Seen, text: str, mentions: Sequence[UUID]
    ) -> list[LiveEvent]:
        message, place = found.message, (found.message.dialog_id, found.message.seq)
        if message.deleted_at is not None:
            raise MessageDeleted
        if found.kind == Kind.DIRECT and await repository_people.blocked_in(connection, place[0], actor):
            raise Blocked
        called = await repository_messages.in_dialog(connection, place[0], actor, mentions)
        if (text, called) == (message.text, list(message.mentions or ())):
            return []
        live = await log.append(connection, place[0], [events.message_edited(actor, place, text, called)])
        await repository_messages.edit(connection, place, found.message_no, text, called)
        return live

    async def edits(self, viewer: UUID, where: MessageId) -> list[Edit]:
        """What a message said before, newest first. Raises MessageNotFound or MessageDeleted."""
        async with self._database.reading() as connection:
            found = await seen(connection, where, viewer)
            if found.message.deleted_at is not None:
                raise MessageDeleted
            return await repository_messages.edits(connection, (where.dialog_id, where.seq), _MOST_EDITS)

    async def delete(self, actor: UUID, where: MessageId, key: Key | None = None) -> None:
        """Deletes a message for everybody. Raises MessageNotFound or PermissionDenied."""
        live: list[LiveEvent] = []
        async with self._database.transaction("delete_message") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            found = await locked(connection, where, actor)
            message = found.message
            if message.sender_id != actor and not Role(found.role).leads:
                raise PermissionDenied("this message is somebody else's")
            if message.type != "text":
                raise PermissionDenied("this message tells of something that has happened: it stays")
            if message.deleted_at is None:
                place = (message.dialog_id, message.seq)
                live = await log.append(connection, place[0], [events.message_deleted(actor, place)])
                await repository_messages.delete(connection, place, message.thread_seq)
        self._publisher.events(live)


async def seen(connection: AsyncConnection, where: MessageId, viewer: UUID) -> Seen:
    found = await repository_messages.seen(connection, (where.dialog_id, where.seq), viewer)
    if found is None:
        raise MessageNotFound
    return found


async def _root(connection: AsyncConnection, where: Where, viewer: UUID) -> int:
    """The first message of the thread that a message begins or stands in."""
    found = await repository_messages.seen(connection, where, viewer)
    if found is None:
        raise ReplyNotFound
    return found.message.thread_seq or found.message.seq


async def locked(connection: AsyncConnection, where: MessageId, actor: UUID) -> Seen:
    """A message whose dialog nobody else changes until the end of the transaction."""
    if await repository.lock(connection, where.dialog_id) is None:
        raise MessageNotFound
    return await seen(connection, where, actor)


async def _own(connection: AsyncConnection, where: MessageId, actor: UUID) -> Seen:
    found = await locked(connection, where, actor)
    if found.message.sender_id != actor:
        raise PermissionDenied("this message is somebody else's")
    if found.message.type != "text":
        raise PermissionDenied("this message tells of something that has happened: it stays")
    return found
