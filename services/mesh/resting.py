"""Resting until there is something to do, or for a while."""

from __future__ import annotations

import asyncio
import contextlib


async def rest(woken: asyncio.Event, seconds: float) -> None:
    """Returns when `woken` is set, or after `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await woken.wait()
