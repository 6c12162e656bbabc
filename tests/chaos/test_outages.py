"""Parts that hang for a while: what can go on goes on, the rest says so in time and comes back by itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support import parts
from tests.support.clients import Clients
from tests.support.doors import Reply
from tests.support.stack import Stack
from tests.support.waiting import until

# The longest a call may take: the contract's deadline for signing in, and a second for the way.
DEADLINE = 11.0


async def sign_in_and_profile(clients: Clients) -> None:
    """A new person signs in and makes a profile; raises when that fails."""
    person = await clients.register()
    body = {"username": person.username, "password": person.password}
    done = await clients.rest.call("POST", "/v1/auth/login", body)
    assert done.code == 200, done
    token = done.body["access_token"]
    made = await clients.rest.call("POST", "/v1/profile", {"display_name": "Somchai"}, token=token)
    assert made.code == 201, made
    assert (await clients.rest.call("GET", "/v1/profile", token=token)).code == 200


async def works_while_away(stack: Stack, part: str, seconds: float) -> None:
    async with Clients.of(stack) as clients:
        with parts.hanging(stack, part):
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                started = time.monotonic()
                await sign_in_and_profile(clients)
                assert time.monotonic() - started < 5
                await asyncio.sleep(min(0.5, seconds / 10))
        await sign_in_and_profile(clients)


@pytest.mark.parametrize("part", ["nats", "redis"])
async def test_signing_in_and_profiles_work_without_bus_and_cache(victim: Stack, part: str) -> None:
    await works_while_away(victim, part, 3)


@pytest.mark.long
@pytest.mark.parametrize("part", ["nats", "redis"])
async def test_signing_in_and_profiles_work_for_a_minute_without_bus_and_cache(
    victim: Stack, part: str
) -> None:
    await works_while_away(victim, part, 60)


async def test_without_the_database_calls_are_refused_in_time_and_work_again_after(victim: Stack) -> None:
    async with Clients.of(victim) as clients:
        person = await clients.register()

        async def ask(verb: str, path: str, body: object = None) -> tuple[float, Reply]:
            started = time.monotonic()
            reply = await clients.rest.call(verb, path, body, token=person.token)
            return time.monotonic() - started, reply

        login = {"username": person.username, "password": person.password}
        with parts.hanging(victim, "postgres"):
            answers = await asyncio.gather(
                ask("GET", "/v1/me"),
                ask("GET", "/v1/profile"),
                ask("POST", "/v1/auth/login", login),
                ask("POST", "/v1/auth/otp/send", {"identifier": "+66812345678", "type": "phone"}),
            )
        for seconds, reply in answers:
            assert reply.code in {503, 504}, reply
            assert reply.reason in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}, reply
            assert seconds < DEADLINE

        async def me() -> int:
            return (await ask("GET", "/v1/me"))[1].code

        await until(me, 200, within=10)
