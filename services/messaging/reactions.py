"""Use cases of reactions. Transactions open here."""

from __future__ import annotations

from uuid import UUID

from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Key
from services.messaging import events, log, repository_messages, repository_people
from services.messaging.domain import Kind, Message, MessageId
from services.messaging.errors import Blocked, MessageDeleted, TooManyReactions
from services.messaging.messages import locked, seen
from services.messaging.publishing import LiveEvent, Publisher


class ReactionService:
    """Emoji under messages: each once for each person, `most` different ones."""

    def __init__(
        self, database: Database, publisher: Publisher, idempotency: Idempotency, *, most: int
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._idempotency = idempotency
        self._most = most

    async def add(self, actor: UUID, where: MessageId, emoji: str, key: Key | None = None) -> Message:
        """Puts an emoji under a message.

        Raises MessageNotFound, MessageDeleted, Blocked or TooManyReactions.
        """
        place = (where.dialog_id, where.seq)
        live: list[LiveEvent] = []
        async with self._database.transaction("add_reaction") as connection:
            if await self._idempotency.claim(connection, key) is None:
                found = await locked(connection, where, actor)
                if found.message.deleted_at is not None:
                    raise MessageDeleted
                is_direct = found.kind == Kind.DIRECT
                if is_direct and await repository_people.blocked_in(connection, where.dialog_id, actor):
                    raise Blocked
                there = await repository_messages.emoji(connection, place, actor, emoji)
                if not there.known and there.different >= self._most:
                    raise TooManyReactions(f"there are {self._most} different reactions already")
                if not there.mine:
                    await repository_messages.react(connection, place, actor, emoji)
                    change = events.reaction(actor, place, emoji, added=True)
                    live = await log.append(connection, where.dialog_id, [change])
            shown = await seen(connection, where, actor)
        self._publisher.events(live)
        return shown.message

    async def remove(self, actor: UUID, where: MessageId, emoji: str, key: Key | None = None) -> None:
        """Takes one's own emoji away; nothing happens when there is none. Raises MessageNotFound."""
        place = (where.dialog_id, where.seq)
        live: list[LiveEvent] = []
        async with self._database.transaction("remove_reaction") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            await locked(connection, where, actor)
            if await repository_messages.unreact(connection, place, actor, emoji):
                change = events.reaction(actor, place, emoji, added=False)
                live = await log.append(connection, where.dialog_id, [change])
        self._publisher.events(live)
