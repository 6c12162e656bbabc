"""When a batch departs: at once on an idle service, after a short wait where a crowd is coming."""

from __future__ import annotations

import math

# Seconds between two looks at who has come: the resolution of the loop's timers.
SLICE = 0.001
# So many must be expected in a window for a wait to be worth it: 1,000 a second when it is 4 ms.
_WORTH = 4
# How much the newest measure of the rate counts.
_NEW = 0.5


class Gathering:
    """Knows how fast requests arrive and how many callers there are. Times in seconds of one clock.

    `window` bounds a wait. `expected` is how many callers there seem to be: those of the last batch, who may
    be back at once, and those who waited when it was answered. When all of them wait, nobody is missing.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._rate = 0.0
        self.expected = 0
        self._departed = -math.inf
        self._landed = -math.inf
        self._arrived = 0

    def departs(self, now: float, arrived: int) -> None:
        """A batch departs; `arrived` requests have ever come."""
        elapsed = max(now - self._departed, SLICE / 10)
        self._rate += _NEW * ((arrived - self._arrived) / elapsed - self._rate)
        self._departed, self._arrived = now, arrived

    def landed(self, now: float, size: int, waiting: int) -> None:
        """A batch of `size` was answered while others were `waiting`."""
        self._landed, self.expected = now, size + waiting

    def opens(self, now: float, waiting: int) -> bool:
        """Whether the next batch should wait for more. Never for one who comes alone."""
        if waiting <= 1 and (self.expected <= 1 or now - self._landed > self._window):
            return False
        return self._rate * self._window >= _WORTH
