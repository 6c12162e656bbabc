"""Parts that hang or are dead for a while: what can go on does, the rest says so in time and comes back."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support import parts
from tests.support.clients import Clients
from tests.support.doors import Reply
from tests.support.stack import Stack
from tests.support.survival import events_settled
from tests.support.waiting import until

# The longest a call may take: the contract's deadline for signing in, and a second for the way.
DEADLINE = 11.0
# Seconds in which the events of an outage are on the bus after it.
DRAINED_WITHIN = 30


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


async def works_while_away(stack: Stack, part: str, how: str, seconds: float) -> None:
    await parts.well(stack)
    async with Clients.of(stack) as clients:
        async with parts.away(stack, part, how):
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                started = time.monotonic()
                await sign_in_and_profile(clients)
                assert time.monotonic() - started < 5
                await asyncio.sleep(min(0.5, seconds / 10))
            if part == "nats":
                assert await unpublished(stack) > 0
        await (drained(stack) if part == "nats" else limits_shared(stack))
        await sign_in_and_profile(clients)
    await events_settled(stack)


async def unpublished(stack: Stack) -> int:
    """Events of identity that wait for NATS."""
    owner = await asyncpg.connect(stack.addresses.database("identity", owner=True))
    try:
        return int(await owner.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL"))
    finally:
        await owner.close()


async def drained(stack: Stack) -> None:
    """What gathered while NATS was away goes out."""
    print(f"drained in {await until(lambda: unpublished(stack), 0, within=DRAINED_WITHIN):.2f} s")


async def limits_shared(stack: Stack) -> None:
    """Buckets of callers are in Redis again."""
    async with Clients.of(stack) as clients, Redis.from_url(stack.addresses.redis("identity")) as redis:
        person = await clients.register()

        async def bucket() -> int:
            await clients.rest.call("GET", "/v1/me", token=person.token)
            try:
                return len([key async for key in redis.scan_iter(match=f"ratelimit:identity:*:{person.id}")])
            except RedisError:
                return 0

        await until(bucket, 1, within=20)


@pytest.mark.parametrize("how", ["hanging", "dead"])
@pytest.mark.parametrize("part", ["nats", "redis"])
async def test_signing_in_and_profiles_work_without_bus_and_cache(victim: Stack, part: str, how: str) -> None:
    await works_while_away(victim, part, how, 3)


@pytest.mark.long
@pytest.mark.parametrize("how", ["hanging", "dead"])
@pytest.mark.parametrize("part", ["nats", "redis"])
async def test_signing_in_and_profiles_work_for_a_minute_without_bus_and_cache(
    victim: Stack, part: str, how: str
) -> None:
    await works_while_away(victim, part, how, 60)


@pytest.mark.parametrize("how", ["hanging", "dead"])
async def test_without_the_database_calls_are_refused_in_time_and_work_again_after(
    victim: Stack, how: str
) -> None:
    async with Clients.of(victim) as clients:
        person = await clients.register()

        async def ask(verb: str, path: str, body: object = None) -> tuple[float, Reply]:
            started = time.monotonic()
            reply = await clients.rest.call(verb, path, body, token=person.token)
            return time.monotonic() - started, reply

        login = {"username": person.username, "password": person.password}
        async with parts.away(victim, "postgres", how):
            answers = await asyncio.gather(
                ask("GET", "/v1/me"),
                ask("GET", "/v1/profile"),
                ask("POST", "/v1/auth/login", login),
                ask("POST", "/v1/auth/otp/send", {"identifier": "+66812345678", "type": "phone"}),
            )
        for seconds, reply in answers:
            assert reply.code in {503, 504}, reply
            assert reply.reason in {"UNAVAILABLE", "OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED"}, reply
            assert seconds < DEADLINE

        async def me() -> int:
            return (await ask("GET", "/v1/me"))[1].code

        await until(me, 200, within=20)
