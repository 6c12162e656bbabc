"""Stops calling what does not answer, for a moment, so that callers fail at once instead of waiting."""

from __future__ import annotations

from collections.abc import Callable

from services.mesh.errors import Unavailable


class Breaker:
    """Opens after `failures` in a row within `window` seconds; then one call a `pause` tries again."""

    def __init__(
        self, clock: Callable[[], float], *, failures: int = 20, window: float = 10.0, pause: float = 1.0
    ) -> None:
        self._clock = clock
        self._limit = failures
        self._window = window
        self._pause = pause
        self._failures = 0
        self._first = 0.0
        self._next_try = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls fail at once."""
        return self._failures >= self._limit

    def enter(self) -> None:
        """Lets a call through. Raises Unavailable while open."""
        if self._failures < self._limit:
            return
        now = self._clock()
        if now < self._next_try:
            raise Unavailable
        # This one is the probe; should it never end, the next has its turn after another pause.
        self._next_try = now + self._pause

    def succeeded(self) -> None:
        """The other side answered, be it with a refusal."""
        self._failures = 0

    def failed(self) -> None:
        """The other side could not be reached or did not answer in time."""
        now = self._clock()
        opened = self._failures >= self._limit
        if not opened and now - self._first > self._window:
            self._failures = 0
        if not self._failures:
            self._first = now
        self._failures += 1
        if self._failures >= self._limit:
            self._next_try = now + self._pause
