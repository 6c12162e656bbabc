"""Writing messages: the store that group commit takes batches to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from asyncpg import Record

from services.mesh import faults
from services.mesh.errors import SampanError
from services.mesh.fast_database import FastDatabase
from services.messaging import repository_posting
from services.messaging.domain import Draft
from services.messaging.encoding import Written, written
from services.messaging.errors import Blocked, ClientMessageIdReused, DialogNotFound, ReplyNotFound
from services.messaging.publishing import LiveEvent, Publisher
from services.messaging.repository_posting import Status

_REFUSED: dict[int, type[SampanError]] = {
    Status.REUSED: ClientMessageIdReused,
    Status.NO_DIALOG: DialogNotFound,
    Status.BLOCKED: Blocked,
    Status.NO_REPLY: ReplyNotFound,
}


class Posted:
    """A message that is in the log. `new` is None when it was there before, perhaps changed since.

    `dropped` says that only its id is left.
    """

    __slots__ = ("dropped", "new", "seq")

    def __init__(self, seq: int, new: Written | None = None, *, dropped: bool = False) -> None:
        self.seq = seq
        self.new = new
        self.dropped = dropped


class PostingStore:
    """Writes drafts, and tells those who are connected, in the order of the log."""

    def __init__(self, database: FastDatabase, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher

    async def post(self, batch: Sequence[Draft]) -> Sequence[Posted | SampanError]:
        """Writes a batch. What comes twice in it under one id is looked at once the first was written."""
        if len({draft.client_message_id for draft in batch}) == len(batch):
            return await self._post(batch)
        first: dict[tuple[object, ...], int] = {}
        for place, draft in enumerate(batch):
            first.setdefault((draft.dialog_id, draft.sender_id, draft.client_message_id), place)
        if len(first) == len(batch):
            return await self._post(batch)
        places = set(first.values())
        firsts = [draft for place, draft in enumerate(batch) if place in places]
        others = [draft for place, draft in enumerate(batch) if place not in places]
        told, more = iter(await self._post(firsts)), iter(await self.post(others))
        return [next(told if place in places else more) for place in range(len(batch))]

    async def find(self, entries: Sequence[Draft]) -> Sequence[Posted | None]:
        """What is there under the ids of drafts: perhaps written by the batch whose answer was lost."""
        rows = await repository_posting.find(self._database, entries)
        found: list[Posted | None] = []
        for draft, row in zip(entries, rows, strict=True):
            is_it = row["seq"] is not None and row["request_hash"] == draft.request_hash
            found.append(_written(draft, row) if is_it else None)
        self._publish(entries, found)
        # It may be an old one that was changed since: what it says now is read.
        return [None if one is None else Posted(one.seq) for one in found]

    async def _post(self, batch: Sequence[Draft]) -> Sequence[Posted | SampanError]:
        await faults.point("messaging.send.before_commit")
        rows = await repository_posting.post(self._database, batch)
        await faults.point("messaging.send.after_commit")
        answers = [_answer(draft, row) for draft, row in zip(batch, rows, strict=True)]
        self._publish(batch, answers)
        return answers

    def _publish(self, drafts: Sequence[Draft], answers: Sequence[Posted | SampanError | None]) -> None:
        live = [
            LiveEvent(draft.dialog_id, one.seq, one.new.event)
            for draft, one in zip(drafts, answers, strict=True)
            if isinstance(one, Posted) and one.new is not None
        ]
        if live:
            # One turn of the loop later: who wrote is answered first, and has both in one frame.
            asyncio.get_running_loop().call_soon(self._publisher.events, live)


def _answer(draft: Draft, row: Record) -> Posted | SampanError:
    status = row["status"]
    if status == Status.WRITTEN:
        return _written(draft, row)
    if status in _REFUSED:
        return _REFUSED[status]()
    return Posted(row["seq"], dropped=status == Status.DROPPED)


def _written(draft: Draft, row: Record) -> Posted:
    seq = row["seq"]
    return Posted(seq, written(draft, seq, row["stamp"], row["thread_seq"], row["mentions"] or ()))
