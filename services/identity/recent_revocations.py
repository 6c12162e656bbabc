"""Answers many who want to know the same: which sessions have ended since."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from services.mesh.revocation import HEARTBEAT, Page, Revocation

# How often the log is looked at for those who watch, all of them at the same moment; and how old an answer
# may be. In seconds.
_LOOK = 0.5
_FRESH = 0.2
# So many are remembered, twice as many at most for a while.
_KEPT = 10_000

# Revocations after a number, in order, at most a page. Raises Unavailable when they cannot be had.
Fetch = Callable[[int], Awaitable[Sequence[Revocation]]]


class RecentRevocations:
    """The end of the log, read anew at most every fifth of a second, whoever asks. `clock` is monotonic.

    `fetch` reads the log after a number, at most `page` of it.
    """

    def __init__(self, fetch: Fetch, page: int, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._page = page
        self._clock = clock
        self._reading = asyncio.Lock()
        self._asked_at = float("-inf")
        # All of the log after this number is known, up to the time of the last question.
        self._floor: int | None = None
        self._recent: list[Revocation] = []
        self._closed = False

    async def watch(self, after: int) -> AsyncGenerator[Page]:
        """The log after a number, and what is added to it, until `close`. Raises Unavailable."""
        # What had ended when somebody began to watch is in the first page.
        told_at, newest = float("-inf"), self._clock()
        while not self._closed:
            found = await self._after(after, newest)
            complete = len(found) < self._page
            now = self._clock()
            if found or now - told_at >= HEARTBEAT:
                after, told_at = (found[-1].number if found else after), now
                yield Page(found, complete)
            if complete:
                # Of now, not of then: the first who looks again reads for all.
                newest = now
                await asyncio.sleep(_LOOK - now % _LOOK)

    def close(self) -> None:
        """Ends all watching."""
        self._closed = True

    async def after(self, number: int) -> Sequence[Revocation]:
        """The log after a number, in order, at most a page. Raises Unavailable."""
        return await self._after(number, self._clock() - _FRESH)

    async def _after(self, number: int, newest: float) -> Sequence[Revocation]:
        """The same, with all that there was at a time of the clock."""
        async with self._reading:
            if self._floor is None:
                self._floor = number
            if number >= self._floor and self._asked_at < newest:
                await self._read_on()
        if number < self._floor:
            return await self._fetch(number)
        begin = bisect_right(self._recent, number, key=lambda one: one.number)
        return self._recent[begin : begin + self._page]

    async def _read_on(self) -> None:
        begun = self._clock()
        last = self._recent[-1].number if self._recent else self._floor or 0
        while found := await self._fetch(last):
            self._recent.extend(found)
            last = found[-1].number
        self._asked_at = begun
        if len(self._recent) > 2 * _KEPT:
            self._floor = self._recent[-_KEPT - 1].number
            del self._recent[:-_KEPT]
