"""The deadline of a block: one timer for all."""

from __future__ import annotations

import asyncio

import pytest

from services.mesh.deadline import Deadlines


async def wait(deadlines: Deadlines, seconds: float | None, event: asyncio.Event) -> str:
    with deadlines.until(seconds):
        await event.wait()
    return "done"


async def test_block_that_takes_too_long_ends_with_timeout_error() -> None:
    with pytest.raises(TimeoutError):
        await wait(Deadlines(), 0.01, asyncio.Event())


async def test_block_within_its_deadline_is_left_alone() -> None:
    deadlines, event = Deadlines(), asyncio.Event()
    first = asyncio.ensure_future(wait(deadlines, 30, event))
    second = asyncio.ensure_future(wait(deadlines, None, event))
    event.set()
    assert await asyncio.gather(first, second) == ["done", "done"]


async def test_each_block_of_a_length_ends_at_its_own_time() -> None:
    deadlines, never = Deadlines(), asyncio.Event()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    ended: list[float] = []

    async def one() -> None:
        with pytest.raises(TimeoutError):
            await wait(deadlines, 0.2, never)
        ended.append(loop.time() - begun)

    first = asyncio.ensure_future(one())
    done, _ = await asyncio.wait({first}, timeout=0.1)
    assert not done
    await asyncio.gather(first, one())
    assert ended[0] >= 0.19
    assert ended[1] >= 0.29


async def test_deadline_passes_after_another_block_has_ended() -> None:
    deadlines, event = Deadlines(), asyncio.Event()
    event.set()
    await wait(deadlines, 0.05, event)
    with pytest.raises(TimeoutError):
        await wait(deadlines, 0.05, asyncio.Event())
    with pytest.raises(TimeoutError):
        await wait(deadlines, 0.05, asyncio.Event())


async def test_cancellation_by_others_stays_a_cancellation() -> None:
    running = asyncio.ensure_future(wait(Deadlines(), 30, asyncio.Event()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_errors_of_the_block_pass() -> None:
    with pytest.raises(KeyError), Deadlines().until(30):
        raise KeyError
