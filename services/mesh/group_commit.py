"""Group commit: requests that arrive while a commit is in flight share the next one.

A commit's latency, not its rows, limits a database. README.md says the rules.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Hashable
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
from structlog.typing import FilteringBoundLogger

from services.mesh import call
from services.mesh.clock import Clock
from services.mesh.errors import Overloaded, SampanError, Unavailable
from services.mesh.gathering import SLICE, Gathering
from services.mesh.lanes import Answer, Lane, Lanes, Waiting
from services.mesh.load import Load
from services.mesh.metrics import Distribution, Figure, Gauge, Histogram
from services.mesh.posting import Counters, Posting, Store

Entry = TypeVar("Entry")
Result = TypeVar("Result")

# When nobody has come for so many seconds, nor in so many turns of the loop after that, nobody is on the way
# either: one turn reads from the network, the next wakes who reads, the last has them here. But who waits for
# an answer may be back with the next request, unseen for a while.
_QUIET = 0.003
_TURNS = 3
# A crowd goes in as many parts as may be in flight, but in no more than this: each has its price.
_PARTS = 3
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_WAITS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024)


@dataclass(frozen=True, slots=True)
class Limits:
    """`batch` entries and `batch_bytes` in a transaction, `parallel` of them at once; `queue` entries and
    `queue_bytes` may wait. A batch of `enough`, or a part of a crowd, waits for nobody; no batch gathers for
    more than `window` seconds, or twice that where a part of a crowd is slow to come, or `slow` where the
    loop has no time left. A part of a batch is posted at most `tries` times; when a commit's answer is lost,
    `patience` seconds are spent to find out.
    """

    batch: int = 256
    batch_bytes: int = 4 << 20
    parallel: int = 2
    queue: int = 8192
    queue_bytes: int = 64 << 20
    enough: int = 64
    window: float = 0.004
    slow: float = 0.032
    tries: int = 4
    patience: float = 3.0


class GroupCommit(Generic[Entry, Result]):
    """Takes entries to a store in batches. Sizes in bytes count where `size` says them.

    `clock` is that of `Call.ends`; `load` says for which share of its time the loop works.
    """

    def __init__(
        self,
        store: Store[Entry, Result],
        *,
        limits: Limits,
        size: Callable[[Entry], int] | None = None,
        clock: Clock = time.perf_counter,
        load: Callable[[], float] | None = None,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self.counters = Counters()
        self._sizes, self._waits = Distribution(_SIZES), Distribution(_WAITS)
        self._limits = limits
        self._size = size
        self._clock = clock
        self._load = Load().share if load is None else load
        self._lanes: Lanes[Entry, Result] = Lanes()
        self._gathering = Gathering(
            limits.window, slow=limits.slow, enough=limits.enough, parts=min(limits.parallel, _PARTS)
        )
        self._posting = Posting(
            store,
            tries=limits.tries,
            patience=limits.patience,
            counters=self.counters,
            log=structlog.get_logger() if log is None else log,
        )
        self._arrived = 0
        # Batches in flight, and their entries.
        self._in_flight = 0
        self._aboard = 0
        self._flights: set[asyncio.Task[None]] = set()
        # The wait for more: what looks again, when it began, and who had come at the last look.
        self._timer: asyncio.Handle | None = None
        self._since = 0.0
        self._seen = 0
        # When the last caller came who waits for the answer.
        self._asked = -math.inf
        # So many need not wait for more.
        self._wanted = limits.enough
        # A batch departs, but has not taken its entries yet.
        self._boarding = False
        self._closing = False
        self._closed = False

    @property
    def depth(self) -> int:
        """Entries that wait for a batch."""
        return self._lanes.depth

    async def observe(self) -> list[Figure]:
        """How many wait, how long they did, and how large batches are."""
        return [
            Gauge("sampan_group_commit_queue", "Entries that wait for a batch.", self.depth),
            Histogram("sampan_group_commit_batch_entries", "Entries in a batch.", self._sizes),
            Histogram(
                "sampan_group_commit_wait_seconds", "How long entries waited for their batch.", self._waits
            ),
        ]

    async def submit(self, entry: Entry, *, lane: Hashable, ends: float | None = None) -> Result:
        """Stores an entry; entries of one lane are stored in the order in which they came.

        `ends`, of the clock, is when the caller's time is up: by default, when the current call's is. Raises
        the entry's own error, Overloaded when too many wait, DeadlineExceeded when its time was up before its
        batch began, Unavailable when it was not done, OutcomeUnknown when that is not known.
        """
        if ends is None:
            current = call.current.get()
            ends = math.inf if current is None else current.ends
        future: asyncio.Future[Result | SampanError] = asyncio.get_running_loop().create_future()
        waiting = self._enter(entry, lane, ends, future)
        self._asked = waiting.since
        try:
            answer = await future
        except asyncio.CancelledError:
            if self._lanes.drop(waiting):
                self.counters.dropped += 1
            raise
        if isinstance(answer, SampanError):
            raise answer
        return answer

    def enter(
        self, entry: Entry, *, lane: Hashable, ends: float, answer: Answer[Result | SampanError]
    ) -> None:
        """The same for callers that are no task each: `answer` is told, never before this returns, and of
        errors, too, but for Overloaded and Unavailable, which are raised at once. Who says that it is done
        went away.
        """
        self._enter(entry, lane, ends, answer)

    def _enter(
        self, entry: Entry, lane: Hashable, ends: float, answer: Answer[Result | SampanError]
    ) -> Waiting[Entry, Result]:
        size = 0 if self._size is None else self._size(entry)
        self._admit(size)
        waiting: Waiting[Entry, Result] = Waiting(entry, size, self._clock(), ends, answer)
        self._lanes.add(lane, waiting)
        self._arrived += 1
        if self._timer is None or self._lanes.ready >= self._wanted:
            self._consider()
        return waiting

    async def close(self, grace: float) -> None:
        """Refuses what comes from now on and finishes what waits, within `grace` seconds.

        After that, who still waits is Unavailable, and who is in flight OutcomeUnknown.
        """
        self._closing = True
        self._consider()
        try:
            async with asyncio.timeout(grace):
                while self._flights:
                    await asyncio.wait(self._flights)
        except TimeoutError:
            pass
        self._closed = True
        self._stop_timer()
        for flight in self._flights:
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)
        self._lanes.clear(Unavailable)

    def _admit(self, size: int) -> None:
        if self._closing:
            raise Unavailable
        full = self._lanes.depth >= self._limits.queue
        if full or self._lanes.size + size > self._limits.queue_bytes:
            self.counters.refused += 1
            raise Overloaded

    def _consider(self) -> None:
        """Lets a batch depart when it should, or sees to it that somebody looks again."""
        ready = self._lanes.ready
        if not ready or self._boarding or self._in_flight >= self._limits.parallel or self._closed:
            return
        now, wait = self._clock(), SLICE
        if self._gathering.is_crowd:
            wait = self._gathering.rest(now)
            goes, wait = wait <= 0, min(wait, _QUIET)
        else:
            goes = not self._in_flight and not self._gathering.opens(now, ready)
        if goes or ready >= self._wanted or self._closing:
            self._depart(now)
        elif self._timer is None:
            self._since = now
            self._wait_on(wait)

    def _wait_on(self, seconds: float) -> None:
        self._seen = self._arrived
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self, turns: int = _TURNS) -> None:
        """A part of the wait is over. It goes on while more come, and next to another batch to its end.

        In so many `turns` nobody may come for a crowd to be over.
        """
        self._timer = None
        if not self._lanes.ready or self._in_flight >= self._limits.parallel or self._closed:
            self._stop_timer()
            return
        now = self._clock()
        wait = SLICE
        if self._gathering.is_crowd:
            rest = self._gathering.rest(now)
            # Timers may be a little early.
            goes = rest < SLICE
            if not goes and self._is_quiet(now):
                if turns:
                    self._timer = asyncio.get_running_loop().call_soon(self._look, turns - 1)
                    return
                goes = True
            wait = min(rest, _QUIET)
        else:
            quiet = self._arrived == self._seen and not self._in_flight
            goes = quiet or now - self._since >= self._limits.window
        if goes:
            self._depart(now)
        else:
            self._wait_on(wait)

    def _is_quiet(self, now: float) -> bool:
        """Whether nobody came since the last look, and nobody may be back who was just answered."""
        return self._arrived == self._seen and now - self._asked > self._limits.slow

    def _depart(self, now: float) -> None:
        self.counters.last_window = now - self._since if self._since else 0.0
        self._stop_timer()
        self._boarding = True
        self._in_flight += 1
        self._wanted = self._gathering.wanted(beside=True)
        # Not in the context of the caller who happens to be first: it works for all.
        flight = asyncio.get_running_loop().create_task(self._fly(), context=Context())
        self._flights.add(flight)
        flight.add_done_callback(self._flights.discard)

    def _stop_timer(self) -> None:
        self._since = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _fly(self) -> None:
        batch, lanes = self._take()
        self._aboard += len(batch)
        self._consider()
        try:
            if batch:
                await self._posting.run(batch)
        finally:
            self._land(lanes, len(batch))
            self._consider()

    def _take(self) -> tuple[list[Waiting[Entry, Result]], list[Lane[Entry, Result]]]:
        """The entries of a batch: taken one turn of the loop after it was called, with all who came in it."""
        self._boarding = False
        now, depth, counters = self._clock(), self._lanes.depth, self.counters
        batch, lanes = self._lanes.take(self._limits.batch, self._limits.batch_bytes, now)
        counters.dropped += depth - self._lanes.depth - len(batch)
        if batch:
            counters.batches += 1
            counters.entries += len(batch)
            counters.last_batch = len(batch)
            self._sizes.add(len(batch))
            for waiting in batch:
                self._waits.add(now - waiting.since)
            self._gathering.departs(now, self._arrived, self._load())
        return batch, lanes

    def _land(self, lanes: list[Lane[Entry, Result]], size: int) -> None:
        """A batch is over."""
        self._in_flight -= 1
        self._aboard -= size
        self._lanes.land(lanes)
        self._gathering.landed(self._clock(), size, self._aboard + self._lanes.ready)
        self._wanted = self._gathering.wanted(beside=self._in_flight > 0)
