"""Use cases of what others are told of a reader or writer: receipts, typing. Transactions open here."""

from __future__ import annotations

from uuid import UUID

from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Key
from services.messaging import repository, repository_people
from services.messaging.domain import SMALL, Kind, MessageId, Read
from services.messaging.errors import Blocked, DialogNotFound, MessageNotFound
from services.messaging.messages import seen
from services.messaging.publishing import Publisher


class ReceiptService:
    """How far people have read, and that they are writing."""

    def __init__(self, database: Database, publisher: Publisher, idempotency: Idempotency) -> None:
        self._database = database
        self._publisher = publisher
        self._idempotency = idempotency

    async def mark_read(self, reader: UUID, where: MessageId, key: Key | None = None) -> Read:
        """Marks all up to a message as read; never goes back. Raises MessageNotFound."""
        is_new = False
        async with self._database.transaction("mark_read") as connection:
            if await self._idempotency.claim(connection, key) is None:
                await seen(connection, where, reader)
                is_new = await repository_people.mark_read(connection, where.dialog_id, reader, where.seq)
            now = await repository_people.mark(connection, where.dialog_id, reader)
        if now is None:
            raise MessageNotFound
        if is_new:
            small = now.member_count <= SMALL
            self._publisher.receipt(where.dialog_id, reader, now.read_seq, now.unread, to_all=small)
        return Read(where.dialog_id, now.read_seq, now.unread)

    async def typing(self, writer: UUID, dialog_id: UUID) -> None:
        """Says that somebody is writing. Raises DialogNotFound or Blocked."""
        async with self._database.reading() as connection:
            mine = await repository.membership(connection, dialog_id, writer)
            if mine is None:
                raise DialogNotFound
            is_direct = mine.kind == Kind.DIRECT
            if is_direct and await repository_people.blocked_in(connection, dialog_id, writer):
                raise Blocked
        self._publisher.typing(dialog_id, writer)
