"""When a batch departs: at once on an idle service, after a short wait where a crowd is coming."""

from __future__ import annotations

import math

from services.mesh.load import fullness

# Seconds between two looks at who has come: the resolution of the loop's timers.
SLICE = 0.001
# So many must be expected in a window for a wait to be worth it: 1,000 a second when it is 4 ms.
_WORTH = 4
# How much the newest measure of the rate counts.
_NEW = 0.5
# So many go in parts: while one is being committed, the others come and go.
CROWD = 16
# Windows between two batches of a crowd, unless a part is there before, where the loop has time.
_PACE = 2


class Gathering:
    """Knows how fast requests arrive and how many callers there are. Times in seconds of one clock.

    `window` bounds a wait, and `slow` one of a crowd where the loop has no time left: each batch takes some
    from all who wait for a processor. `expected` is how many callers there seem to be: those of the last
    batch, who may be back at once, and all others who waited or were in flight when it was answered. A batch
    is worth `enough`, or all of them, or, where several may be in flight, one of `parts` of a crowd: in
    lockstep the database would wait for this process, and this process for the database. Of a crowd many are
    on the way, unseen: it is believed for a while to be as large as it was. Where the loop is busy most are
    unseen: then a batch is worth all who are expected, and the fuller the loop, the longer it waits for them.
    """

    def __init__(self, window: float, *, slow: float, enough: int, parts: int) -> None:
        self._window = window
        self._slow = max(slow, _PACE * window)
        self._enough = enough
        self._parts = parts
        self._rate = 0.0
        self.expected = 0
        self._departed = -math.inf
        self._landed = -math.inf
        self._arrived = 0
        self._pace = _PACE * window

    @property
    def is_busy(self) -> bool:
        """Whether the loop has little time left."""
        return self._pace > _PACE * self._window

    @property
    def is_crowd(self) -> bool:
        """Whether there are, or may be, so many that batches go by a pace."""
        many = self.expected >= CROWD or self.is_busy
        return self._parts > 1 and many and self._rate * self._pace >= _WORTH

    def departs(self, now: float, arrived: int, load: float) -> None:
        """A batch departs; `arrived` requests have ever come, and the loop works for `load` of its time."""
        quick = _PACE * self._window
        self._pace = quick + (self._slow - quick) * fullness(load)
        elapsed = max(now - self._departed, SLICE / 10)
        self._rate += _NEW * ((arrived - self._arrived) / elapsed - self._rate)
        self._departed, self._arrived = now, arrived

    def landed(self, now: float, size: int, others: int) -> None:
        """A batch of `size` was answered while `others` waited or were in flight."""
        self._landed = now
        self.expected = max(size + others, self.expected - 1 if self.is_crowd else 0)

    def opens(self, now: float, waiting: int) -> bool:
        """Whether the next batch should wait for more. Never for one who comes alone."""
        if waiting <= 1 and (self.expected <= 1 or now - self._landed > self._window):
            return False
        return self._rate * self._window >= _WORTH

    def rest(self, now: float) -> float:
        """Seconds until the next batch of a crowd departs, however few have come."""
        return self._departed + self._pace - now

    def wanted(self, *, beside: bool) -> int:
        """So many need not wait for more; `beside` a batch in flight only a share that is worth one."""
        if self.is_crowd:
            parts = 1 if self.is_busy else self._parts
            return min(self._enough, -(-self.expected // parts))
        return self._enough if beside else min(self._enough, self.expected)
