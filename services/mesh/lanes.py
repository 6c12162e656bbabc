"""Who waits for a batch: first in, first out within a lane, and one batch in flight for each lane."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from services.mesh.errors import DeadlineExceeded, SampanError

Entry = TypeVar("Entry")
Result = TypeVar("Result")
Told_contra = TypeVar("Told_contra", contravariant=True)


class Answer(Protocol[Told_contra]):
    """Where one answer goes: a future, or what costs less."""

    def done(self) -> bool:
        """Whether it is there, or nobody waits for it."""
        ...

    def set_result(self, result: Told_contra, /) -> None:
        """Takes it, at most once. Never raises."""
        ...


class Waiting(Generic[Entry, Result]):
    """An entry, and where its answer goes. It came at `since`; at `ends` its caller's time is up."""

    __slots__ = ("ends", "entry", "future", "lane", "queued", "since", "size")

    def __init__(
        self,
        entry: Entry,
        size: int,
        since: float,
        ends: float,
        future: Answer[Result | SampanError],
    ) -> None:
        self.entry = entry
        self.size = size
        self.since = since
        self.ends = ends
        self.future = future
        self.lane: Lane[Entry, Result] | None = None
        self.queued = False

    def answer(self, answer: Result | SampanError) -> None:
        """Tells the caller, if still there. Errors are values here: nobody may be left to raise them."""
        if not self.future.done():
            self.future.set_result(answer)


class Lane(Generic[Entry, Result]):
    """Entries that must keep their order."""

    __slots__ = ("flying", "key", "queue")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.flying = False
        self.queue: deque[Waiting[Entry, Result]] = deque()


class Lanes(Generic[Entry, Result]):
    """All lanes that have somebody waiting or in flight. Lanes take turns.

    `depth` and `size` are of all who wait; `ready` is how many of them are in no lane that is in flight.
    """

    def __init__(self) -> None:
        self._lanes: dict[Hashable, Lane[Entry, Result]] = {}
        self._ready: OrderedDict[Lane[Entry, Result], None] = OrderedDict()
        self.depth = 0
        self.size = 0
        self.ready = 0

    def add(self, key: Hashable, waiting: Waiting[Entry, Result]) -> None:
        """Puts an entry at the end of its lane."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
            self._ready[lane] = None
        lane.queue.append(waiting)
        waiting.lane = lane
        waiting.queued = True
        self.depth += 1
        self.size += waiting.size
        if not lane.flying:
            self.ready += 1

    def drop(self, waiting: Waiting[Entry, Result]) -> bool:
        """Takes out one whose caller went away; False when it waits no longer."""
        lane = waiting.lane
        if lane is None or not waiting.queued:
            return False
        lane.queue.remove(waiting)
        self._leaves(waiting)
        if not lane.flying:
            self.ready -= 1
            if not lane.queue:
                del self._lanes[lane.key], self._ready[lane]
        return True

    def take(
        self, most: int, most_bytes: int, now: float
    ) -> tuple[list[Waiting[Entry, Result]], list[Lane[Entry, Result]]]:
        """The next batch and its lanes, which are in flight until `land`.

        Who has no time left is told so; who went away is left out.
        """
        batch: list[Waiting[Entry, Result]] = []
        lanes: list[Lane[Entry, Result]] = []
        room = most_bytes
        while self._ready and len(batch) < most:
            lane = next(iter(self._ready))
            if batch and lane.queue[0].size > room:
                break
            del self._ready[lane]
            self.ready -= len(lane.queue)
            lane.flying = True
            lanes.append(lane)
            while lane.queue and len(batch) < most and (not batch or lane.queue[0].size <= room):
                waiting = lane.queue.popleft()
                self._leaves(waiting)
                if waiting.ends <= now:
                    waiting.answer(DeadlineExceeded())
                elif not waiting.future.done():
                    batch.append(waiting)
                    room -= waiting.size
        return batch, lanes

    def land(self, lanes: list[Lane[Entry, Result]]) -> None:
        """Their batch is over: who waits in these lanes may be in the next."""
        for lane in lanes:
            lane.flying = False
            if lane.queue:
                self._ready[lane] = None
                self.ready += len(lane.queue)
            else:
                del self._lanes[lane.key]

    def clear(self, why: type[SampanError]) -> None:
        """Answers all who wait with an error."""
        for lane in self._lanes.values():
            for waiting in lane.queue:
                waiting.queued = False
                waiting.answer(why())
        self._lanes, self._ready = {}, OrderedDict()
        self.depth = self.size = self.ready = 0

    def _leaves(self, waiting: Waiting[Entry, Result]) -> None:
        waiting.queued = False
        self.depth -= 1
        self.size -= waiting.size
