"""Waiting for something to become true, without sleeping longer than needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
# Of the time that has passed, the share that passes before it is asked again; and the longest, in seconds.
_SHARE, _LONGEST = 0.1, 0.2


async def until(ask: Callable[[], Awaitable[Any]], wanted: Any, *, within: float) -> float:
    """Asks until the answer is the wanted one; returns the seconds it took. Fails when time is up.

    It asks less and less often: what is waited for needs the machine, too.
    """
    started = time.monotonic()
    while (answer := await ask()) != wanted:
        passed = time.monotonic() - started
        if passed > within:
            raise AssertionError(f"still {answer!r} and not {wanted!r} after {within} s")
        await asyncio.sleep(min(max(passed * _SHARE, 0.01), _LONGEST))
    return time.monotonic() - started


async def holds(check: Callable[[], Awaitable[None]], *, within: float = 20) -> None:
    """Checks until what is asserted is so. When time is up it fails as the last check did."""

    async def found() -> AssertionError | None:
        try:
            await check()
        except AssertionError as error:
            return error
        return None

    try:
        await until(found, None, within=within)
    except AssertionError:
        await check()


async def crowd(calls: Sequence[Callable[[], Awaitable[T]]], *, at_once: int = 50) -> list[T]:
    """What calls come to, of which so many are on their way at a time.

    All at once would be more than a slow machine answers before their deadlines.
    """
    room = asyncio.Semaphore(at_once)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with room:
            return await call()

    return await asyncio.gather(*(one(call) for call in calls))
