"""Parts are killed again and again under load: nothing acknowledged is lost, and service is back at once."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.support import parts
from tests.support.clients import Clients, Person
from tests.support.stack import Stack

LOADERS = 4
# Seconds from a kill to the first call that succeeds, at the 99th percentile.
BACK_WITHIN = 5.0


class Load:
    """People who register and sign in all the time; what was acknowledged is remembered."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._stopping = asyncio.Event()
        self._success = asyncio.Condition()
        self.acknowledged: list[Person] = []
        self.broken: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Loads while the block runs."""
        tasks = [asyncio.create_task(self._one()) for _ in range(LOADERS)]
        try:
            yield
        finally:
            self._stopping.set()
            await asyncio.gather(*tasks)

    async def next_success(self, after: int) -> None:
        """Waits until more than `after` calls have succeeded."""
        async with self._success:
            await self._success.wait_for(lambda: len(self.acknowledged) > after)

    async def _one(self) -> None:
        while not self._stopping.is_set():
            async with Clients.of(self._stack) as clients:
                await self._calls(clients)

    async def _calls(self, clients: Clients) -> None:
        for _ in range(20):
            if self._stopping.is_set():
                return
            try:
                person = await clients.try_register()
            except httpx.TransportError:
                await asyncio.sleep(0.01)
                return
            if isinstance(person, Person):
                self.acknowledged.append(person)
                async with self._success:
                    self._success.notify_all()
            elif person.code not in {503, 504}:
                self.broken.append(str(person))


async def all_there(stack: Stack, people: list[Person]) -> list[str]:
    """Names of those who cannot sign in though their registration was acknowledged."""
    gate = asyncio.Semaphore(4)
    async with Clients.of(stack) as clients:

        async def missing(person: Person) -> str:
            body = {"username": person.username, "password": person.password}
            async with gate:
                reply = await clients.rest.call("POST", "/v1/auth/login", body)
            return "" if reply.code == 200 else f"{person.username}: {reply}"

        return [name for name in await asyncio.gather(*(missing(person) for person in people)) if name]


async def survive(stack: Stack, part: str, rounds: int) -> list[float]:
    """Kills a part again and again; returns the seconds from each kill to the next success."""
    load = Load(stack)
    times = []
    async with load.running():
        await asyncio.wait_for(load.next_success(0), 20)
        for _ in range(rounds):
            killed = parts.kill(stack, part)
            started, before = time.monotonic(), len(load.acknowledged)
            # What was under way may still succeed; a success after the part is another one is the first.
            while parts.pid_of(stack, part) == killed:
                await asyncio.sleep(0.01)
            before = max(before, len(load.acknowledged))
            await asyncio.wait_for(load.next_success(before), 30)
            times.append(time.monotonic() - started)
    assert load.broken == []
    assert await all_there(stack, load.acknowledged) == []
    return times


@pytest.mark.parametrize("part", parts.ALL)
async def test_nothing_acknowledged_is_lost_in_two_kills(victim: Stack, part: str) -> None:
    times = await survive(victim, part, rounds=2)
    assert max(times) < BACK_WITHIN, times


@pytest.mark.long
@pytest.mark.parametrize("part", parts.ALL)
async def test_nothing_acknowledged_is_lost_in_thirty_kills(victim: Stack, part: str) -> None:
    times = await survive(victim, part, rounds=30)
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
    print(f"{part}: first success after kill -9, p50 {statistics.median(times):.2f} s, p99 {p99:.2f} s")
    assert p99 < BACK_WITHIN, times
