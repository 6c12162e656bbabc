"""Reads events of the log for who is behind; who wants the same shares one read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from uuid import UUID

from services.mesh.errors import Unavailable
from services.messaging.live import frames
from services.messaging.live.dialog import Dialog, fitting
from services.messaging.live.frames import Piece
from services.messaging.publishing import LiveEvent

# After which event of a dialog, and up to which.
Span = tuple[UUID, int, int]
# The next events of each of several spans, as many as one read gives; at least one of each.
Fetch = Callable[[Sequence[Span]], Awaitable[Sequence[LiveEvent]]]

_AT_ONCE = 64
_PARALLEL = 2


_Key = tuple[Dialog, int, int]


class Read:
    """Events that were read, from `first` on without gaps."""

    __slots__ = ("_dialog", "_piece", "events", "first")

    def __init__(self, dialog: Dialog, events: Sequence[LiveEvent]) -> None:
        self._dialog = dialog
        self.events = events
        self.first = events[0].seq
        self._piece: Piece | None = None

    @property
    def piece(self) -> Piece:
        """As many of them as fit, encoded once."""
        if self._piece is None:
            fields = [frames.event_field(event.data) for event in self.events]
            self._dialog.before(fields, self.first)
            self._piece = frames.events(self._dialog, self.first, fitting(fields))
        return self._piece


class History:
    """Events after a cursor. A query covers at most `_AT_ONCE` spans; two are in flight at most."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._waiting: dict[_Key, asyncio.Future[Read]] = {}
        self._asked: dict[_Key, asyncio.Future[Read]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def ask(self, dialog: Dialog, after: int, until: int) -> asyncio.Future[Read]:
        """The next events after one, up to one that exists. Fails with Unavailable.

        Others may wait for the same future: shield it. What is read begins later when events are gone by age.
        """
        key = (dialog, after, until)
        found = self._asked.get(key)
        if found is None:
            loop = asyncio.get_running_loop()
            found = self._asked[key] = self._waiting[key] = loop.create_future()
            # Nobody may be left to hear of it.
            found.add_done_callback(lambda done: done.exception())
            if len(self._running) < _PARALLEL:
                task = loop.create_task(self._drain(), context=Context())
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        return found

    async def _drain(self) -> None:
        while self._waiting:
            batch = {key: self._waiting.pop(key) for key in list(self._waiting)[:_AT_ONCE]}
            try:
                found = _grouped(await self._fetch([(key[0].id, key[1], key[2]) for key in batch]))
            except BaseException as error:
                self._fail(batch)
                if not isinstance(error, Unavailable):
                    raise
            else:
                self._answer(batch, found)

    def _fail(self, batch: dict[_Key, asyncio.Future[Read]]) -> None:
        for key, future in batch.items():
            del self._asked[key]
            future.set_exception(Unavailable())

    def _answer(
        self, batch: dict[_Key, asyncio.Future[Read]], found: dict[UUID, dict[int, LiveEvent]]
    ) -> None:
        for key, future in batch.items():
            del self._asked[key]
            dialog, after, until = key
            run = _run(found.get(dialog.id, {}), after, until)
            if run:
                future.set_result(Read(dialog, run))
            else:
                # What is said to exist is not there: the database was set back, or events are gone by age.
                future.set_exception(Unavailable())


def _grouped(found: Sequence[LiveEvent]) -> dict[UUID, dict[int, LiveEvent]]:
    """By dialog and number: spans of one dialog may overlap."""
    rows: dict[UUID, dict[int, LiveEvent]] = {}
    for event in found:
        rows.setdefault(event.dialog_id, {})[event.seq] = event
    return rows


def _run(found: dict[int, LiveEvent], after: int, until: int) -> list[LiveEvent]:
    """What comes first after a cursor, without gaps."""
    first = min((seq for seq in found if after < seq <= until), default=0)
    run: list[LiveEvent] = []
    while first and (event := found.get(first + len(run))) is not None and event.seq <= until:
        run.append(event)
    return run
