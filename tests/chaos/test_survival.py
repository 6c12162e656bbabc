"""Parts are killed again and again under load: nothing acknowledged is lost, and service is back at once."""

from __future__ import annotations

import asyncio
import os
import statistics
import time

import pytest

from tests.support import parts
from tests.support.stack import Stack
from tests.support.survival import Load, events_settled, lost, wrongly_told

# Seconds from a kill to the first round of calls that succeeds, at the 99th percentile.
BACK_WITHIN = 5.0


async def survive(stack: Stack, part: str, rounds: int, pause: float = 0.0) -> list[float]:
    """Kills a part again and again; returns the seconds from each kill to the next success."""
    await parts.well(stack)
    load = Load(stack, pause)
    times = []
    async with load.running():
        await asyncio.wait_for(load.success(), 30)
        for _ in range(rounds):
            times.append(await back_after_kill(stack, part, load))
            # The next kill hits a stack that is whole.
            await parts.well(stack)
    assert load.broken == []
    assert await lost(stack, load.people) == []
    await events_settled(stack)
    assert await wrongly_told(stack, load.people) == []
    return times


async def back_after_kill(stack: Stack, part: str, load: Load) -> float:
    """Seconds from the kill of a part to the first round that began after it and succeeded."""
    started = time.monotonic()
    killed = parts.kill(stack, part)
    await parts.another(stack, part, killed)
    await asyncio.wait_for(load.success(), 30)
    return time.monotonic() - started


@pytest.mark.parametrize("part", parts.ALL)
async def test_nothing_acknowledged_is_lost_in_a_kill(victim: Stack, part: str) -> None:
    # How soon it is back is measured by the long form, on a machine that does nothing else.
    await survive(victim, part, rounds=1, pause=0.05)


@pytest.mark.long
@pytest.mark.parametrize("part", parts.ALL)
async def test_nothing_acknowledged_is_lost_in_thirty_kills(victim: Stack, part: str) -> None:
    times = await survive(victim, part, rounds=30)
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
    print(
        f"{part}: first success after kill -9, p50 {statistics.median(times):.2f} s, p99 {p99:.2f} s, "
        f"max {max(times):.2f} s, load of the machine {os.getloadavg()[0]:.1f}"
    )
    assert p99 < BACK_WITHIN, times
