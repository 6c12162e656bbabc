"""How long to wait before the next try."""

from __future__ import annotations


class Backoff:
    """How long something that ended stays down, in seconds.

    What ends before it serves is left alone for `first`, then twice as long each time, up to `ceiling`. What
    served was well: it comes back after `first`, or at the earliest `young` after it began to serve, so that
    something that dies of its first calls does not spin.
    """

    def __init__(self, first: float = 0.05, ceiling: float = 2.0, young: float = 0.5) -> None:
        self.first = first
        self.ceiling = ceiling
        self.young = young
        self._next = first

    def failed(self) -> float:
        """The wait after something that did not come to serve."""
        delay = self._next
        self._next = min(self.ceiling, delay * 2)
        return delay

    def served(self, seconds: float) -> float:
        """The wait after something that served for `seconds`."""
        self._next = self.first
        return max(self.first, self.young - seconds)
