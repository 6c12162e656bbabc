"""kill -9 of any part: it is back by itself, and acknowledged writes are there."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from services.stack.topology import EDGE, PROCESSES, SERVERS
from tests.support import parts
from tests.support.clients import Clients, Person
from tests.support.stack import Stack

PARTS = (*SERVERS, EDGE, *(process.name for process in PROCESSES))
# Seconds in which everything must work again after a kill.
BACK_WITHIN = 30


@pytest.fixture
async def people(victim: Stack) -> AsyncIterator[Clients]:
    async with Clients.of(victim) as found:
        yield found


async def until_well(clients: Clients, person: Person) -> float:
    """Seconds until health is good and a new person can sign in."""
    started = time.monotonic()
    while time.monotonic() - started < BACK_WITHIN:
        try:
            health = await clients.rest.call("GET", "/healthz")
            me = await clients.rest.call("GET", "/v1/me", token=person.token)
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        if health.code == 200 and me.code == 200:
            return time.monotonic() - started
        assert me.code in {200, 503, 504}, me
        await asyncio.sleep(0.05)
    raise AssertionError("not back in time")


# In the short form test_survival.py kills each.
@pytest.mark.long
@pytest.mark.parametrize("part", PARTS)
async def test_a_killed_part_is_back_by_itself(victim: Stack, people: Clients, part: str) -> None:
    before = await people.register()
    acknowledged: list[Person] = []
    done = asyncio.Event()

    async def keep_registering() -> None:
        while not done.is_set():
            try:
                acknowledged.append(await people.register())
            except (AssertionError, httpx.TransportError):
                # Refused while the part is away: not acknowledged, so nothing is owed.
                await asyncio.sleep(0.02)

    load = asyncio.create_task(keep_registering())
    pid = victim.state.parts[part].pid
    os.kill(pid, signal.SIGKILL)
    await until_well(people, before)
    await people.register()
    done.set()
    await load
    assert victim.state.parts[part].pid != pid
    for person in acknowledged[-20:]:
        body = {"username": person.username, "password": person.password}
        reply = await people.rest.call("POST", "/v1/auth/login", body)
        assert reply.code == 200, reply
    events = (victim.home / "logs" / "supervisor.log").read_text()
    assert f'"{part}"' in events


async def test_a_stopped_process_is_back_by_itself(victim: Stack, people: Clients) -> None:
    person = await people.register()
    pid = parts.stop(victim, "people")
    await parts.another(victim, "people", pid)
    await parts.well(victim)
    assert (await people.rest.call("GET", "/v1/me", token=person.token)).code == 200
