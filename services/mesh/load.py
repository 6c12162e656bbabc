"""How busy this thread is: the share of its time in which it had a processor."""

from __future__ import annotations

import time

from services.mesh.clock import Clock

# Seconds over which it is measured; a question in between gets what was measured last.
_SPAN = 0.05
# Who works for less of its time has time; for more, there is none left.
_BUSY, _FULL = 0.5, 0.8


class Load:
    """Measured when it is asked for, by who is asked often. `cpu` and `clock` in seconds."""

    def __init__(self, cpu: Clock = time.thread_time, clock: Clock = time.perf_counter) -> None:
        self._cpu = cpu
        self._clock = clock
        self._since = clock()
        self._used = cpu()
        self._share = 0.0

    def share(self) -> float:
        """0 for a thread that only waits, 1 for one that always works."""
        now = self._clock()
        elapsed = now - self._since
        if elapsed >= _SPAN:
            used = self._cpu()
            self._share = (used - self._used) / elapsed
            self._since, self._used = now, used
        return self._share


def fullness(share: float) -> float:
    """0 where a thread that works for such a share of its time has time, 1 where it has none left."""
    return min(1.0, max(0.0, (share - _BUSY) / (_FULL - _BUSY)))
