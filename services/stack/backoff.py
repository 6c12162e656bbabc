"""How long to wait before the next try."""

from __future__ import annotations


class Backoff:
    """Doubles from `first` to `ceiling` seconds; begins anew once something has stayed up for `settled`."""

    def __init__(self, first: float = 0.05, ceiling: float = 2.0, settled: float = 10.0) -> None:
        self.first = first
        self.ceiling = ceiling
        self.settled = settled
        self._next = first

    def after(self, uptime: float) -> float:
        """The wait after something died that was up for `uptime` seconds."""
        if uptime >= self.settled:
            self._next = self.first
        delay = self._next
        self._next = min(self.ceiling, delay * 2)
        return delay
