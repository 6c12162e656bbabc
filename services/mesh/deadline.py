"""Ends calls that take longer than they may: `asyncio.timeout` with one timer for all of them.

A timer for each call cost more than all other steps of the chain together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType

# Timers of the loop may fire this many seconds early.
_EARLY = 0.002


class _Limited:
    """One call's block. Raises TimeoutError in place of the cancellation that ended it."""

    __slots__ = ("_cancelling", "_expired", "_running", "_task", "ends")

    def __init__(self, running: dict[_Limited, None], ends: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task that it can cancel")
        self.ends = ends
        self._task = task
        self._running = running
        self._cancelling = task.cancelling()
        self._expired = False

    def expire(self) -> None:
        """Cancels what runs."""
        self._expired = True
        self._task.cancel()

    def __enter__(self) -> None:
        self._running[self] = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._running.pop(self, None)
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error


class Deadline:
    """Deadlines of one length, in seconds: who began first ends first, so that one timer serves all."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[_Limited, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> _Limited:
        """The block of a call that begins now, for a `with` in its task."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)
        return _Limited(self._running, time.monotonic() + self._seconds)

    def _look(self) -> None:
        """Ends what is overdue and waits for the next; sleeps when there is none."""
        self._timer = None
        now = time.monotonic()
        while self._running:
            first = next(iter(self._running))
            if first.ends > now + _EARLY:
                self._timer = asyncio.get_running_loop().call_later(first.ends - now, self._look)
                return
            del self._running[first]
            first.expire()


class Deadlines:
    """Deadlines by their length. The contract has few lengths; `until(None)` is no deadline."""

    def __init__(self) -> None:
        self._known: dict[float, Deadline] = {}
        self._none: contextlib.AbstractContextManager[None] = contextlib.nullcontext()

    def until(self, seconds: float | None) -> contextlib.AbstractContextManager[None]:
        """A block that ends with TimeoutError when it has taken that many seconds."""
        if seconds is None:
            return self._none
        found = self._known.get(seconds)
        if found is None:
            found = self._known[seconds] = Deadline(seconds)
        return found.start()
