"""Waiting for something to become true, without sleeping longer than needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def until(ask: Callable[[], Awaitable[Any]], wanted: Any, *, within: float) -> float:
    """Asks until the answer is the wanted one; returns the seconds it took. Fails when time is up."""
    started = time.monotonic()
    while (answer := await ask()) != wanted:
        if time.monotonic() - started > within:
            raise AssertionError(f"still {answer!r} and not {wanted!r} after {within} s")
        await asyncio.sleep(0.01)
    return time.monotonic() - started
