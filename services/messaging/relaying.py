"""The log as a relay reads it: messages are their own outbox, and writing one costs no second row."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from services.mesh.metrics import Gauge
from services.mesh.relay import Acks, Row
from services.messaging import bus_events, repository_relay
from services.messaging.publishing import LiveEvent

# Dialogs whose events are read at once, and dialogs that are remembered to have some.
_DIALOGS = 200
_MOST_BEHIND = 100_000
# Dialogs in one look at all of them. Between two rounds of these pass so many seconds, or so many times as
# long as the round took.
_SLICE = 5000
_ROUND_SECONDS = 2.0
_ROUND_EASE = 20.0
# Who has not asked for so many seconds does not lead, and needs no hints.
_LATELY = 5.0
_FIRST = UUID(int=0)


class LogSource:
    """Knows for each dialog up to where it was published, and by hints which dialogs have more.

    A hint may get lost with the process that had it. So all dialogs are compared with what was published of
    them: first of all, and now and then.
    """

    def __init__(self) -> None:
        # With the number of the last hint: what is hinted at while it is being read stays.
        self._behind: dict[UUID, int] = {}
        self._hints = itertools.count()
        # Of dialogs that are being published: the hint, and the newest event.
        self._taken: dict[UUID, tuple[int, int]] = {}
        self._asked_at = float("-inf")
        self._round_at = float("-inf")
        self._round_took = 0.0
        self._after: UUID | None = None

    def noted(self, events: Iterable[LiveEvent]) -> bool:
        """Hints that there are new events; whether anybody here wants to know. Never waits, never raises."""
        if time.monotonic() - self._asked_at > _LATELY:
            return False
        hint = next(self._hints)
        for event in events:
            self._behind[event.dialog_id] = hint
        if len(self._behind) > _MOST_BEHIND:
            # A look at all dialogs finds them, too.
            self._behind.clear()
            self._round_at = float("-inf")
        return True

    async def observe(self) -> list[Gauge]:
        """How much there is to be published; where this process does not publish, nothing."""
        told = "Dialogs with events that are not published yet, as far as is known."
        return [Gauge("sampan_relay_dialogs_behind", told, len(self._behind))]

    async def fetch(self, connection: asyncpg.Connection, most: int) -> tuple[Sequence[Row], bool]:
        """The next events of some dialogs."""
        now = time.monotonic()
        if now - self._asked_at > _LATELY:
            # There were no hints meanwhile.
            self._round_at, self._after = float("-inf"), None
        self._asked_at = now
        if len(self._behind) < _DIALOGS:
            await self._look(connection)
        some = dict(itertools.islice(self._behind.items(), min(_DIALOGS, most)))
        if not some:
            return (), self._after is not None
        rows = await repository_relay.following(connection, list(some), max(1, most // len(some)))
        untils = {row["dialog_id"]: row["until"] for row in rows}
        self._taken = {dialog: (hint, untils[dialog]) for dialog, hint in some.items() if dialog in untils}
        for dialog, hint in some.items():
            if dialog not in untils:
                self._drop(dialog, hint)
        # What is left of these is known when they were published: they are looked at again.
        return [bus_events.outgoing(row) for row in rows], bool(self._behind)

    async def mark(self, connection: asyncpg.Connection, rows: Sequence[Row], acks: Acks) -> None:
        """What was acknowledged is published, up to the first event that was not."""
        heads: dict[UUID, int] = {}
        for row, ack in zip(rows, acks, strict=True):
            if ack is None:
                break
            heads[row["aggregate_id"]] = row["aggregate_version"]
        if heads:
            await repository_relay.mark(connection, heads)
        for dialog, (hint, until) in self._taken.items():
            if heads.get(dialog) == until:
                self._drop(dialog, hint)
            elif dialog in self._behind:
                # Others first.
                self._behind[dialog] = self._behind.pop(dialog)
        self._taken = {}

    async def unmark(self, connection: asyncpg.Connection, since: datetime) -> int:
        """What is younger is to be published again; in how many dialogs."""
        self._round_at, self._after = float("-inf"), None
        return await repository_relay.unmark(connection, since)

    async def has_published(self, connection: asyncpg.Connection, since: datetime) -> bool:
        """Whether something of a dialog that changed since was published."""
        return await repository_relay.has_published(connection, since)

    def _drop(self, dialog: UUID, hint: int) -> None:
        if self._behind.get(dialog) == hint:
            del self._behind[dialog]

    async def _look(self, connection: asyncpg.Connection) -> None:
        """Compares some more dialogs, when it is time for a round of all."""
        began = time.monotonic()
        if self._after is None:
            if began < self._round_at:
                return
            self._after, self._round_took = _FIRST, 0.0
        found = await repository_relay.ahead(connection, self._after, _SLICE)
        hint = next(self._hints)
        for dialog in found.ahead:
            self._behind.setdefault(dialog, hint)
        self._round_took += time.monotonic() - began
        self._after = found.last if found.looked == _SLICE else None
        if self._after is None:
            self._round_at = time.monotonic() + max(_ROUND_SECONDS, _ROUND_EASE * self._round_took)


def noting(source: LogSource, wake: Callable[[], None]) -> Callable[[Iterable[LiveEvent]], None]:
    """What is to be told of new events: it wakes the relay."""

    def noted(events: Iterable[LiveEvent]) -> None:
        if source.noted(events):
            wake()

    return noted
