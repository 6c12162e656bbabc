"""Group reads: look-ups by key that arrive while a query is in flight share the next one.

One round trip for each caller would be the limit of a hot read; alone, a caller waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from services.mesh import trace
from services.mesh.errors import Unavailable

# Seconds in which a busy process lets callers gather.
_GATHERING = 0.002

Key = TypeVar("Key")
Value = TypeVar("Value")


class GroupRead(Generic[Key, Value]):
    """Answers from `fetch`, which gets each key once and leaves out what is not there.

    A caller joins only a query that starts after its call, so it sees whatever was committed before. One
    query is in flight at a time, of at most `most` keys; what `fetch` raises, all callers of it get.
    """

    def __init__(
        self, fetch: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]], *, most: int = 256
    ) -> None:
        self._fetch = fetch
        self._most = most
        self._waiting: dict[Key, list[asyncio.Future[Value | None]]] = {}
        self._running: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Value | None:
        """The value of a key, or None when there is none."""
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[Value | None] = loop.create_future()
        self._waiting.setdefault(key, []).append(mine)
        if self._running is None:
            # Not in the context of the caller who happens to be first: it works for all.
            self._running = loop.create_task(self._drain(), context=Context())
        if trace.here.get() is None:
            return await mine
        # The query itself is everybody's, and so in nobody's trace.
        with trace.step("shared read", trace.INTERNAL, {}):
            return await mine

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch = self._next()
                await self._answer(batch)
                if len(batch) > 1:
                    # Busy: a moment's wait makes the next query answer many times as many.
                    await asyncio.sleep(_GATHERING)
        finally:
            self._running = None

    async def _answer(self, batch: dict[Key, list[asyncio.Future[Value | None]]]) -> None:
        try:
            found = await self._fetch(tuple(batch))
        except BaseException as error:
            told = error if isinstance(error, Exception) else Unavailable()
            for _, one in _open(batch):
                one.set_exception(told)
            if told is not error:
                raise
            return
        for key, one in _open(batch):
            one.set_result(found.get(key))

    def _next(self) -> dict[Key, list[asyncio.Future[Value | None]]]:
        if len(self._waiting) <= self._most:
            batch, self._waiting = self._waiting, {}
            return batch
        return {key: self._waiting.pop(key) for key in list(self._waiting)[: self._most]}


def _open(
    batch: Mapping[Key, Sequence[asyncio.Future[Value | None]]],
) -> Iterator[tuple[Key, asyncio.Future[Value | None]]]:
    """Those who still wait: others went away meanwhile."""
    return ((key, one) for key, waiting in batch.items() for one in waiting if not one.done())
