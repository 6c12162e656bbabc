"""One limit for all replicas, leased from Redis; counted alone, and at once, while Redis is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from sampan.probe.v1 import probe_service_pb2 as probe
from sampan.probe.v1.probe_service_pb2_grpc import ProbeServiceStub
from services.mesh import logs
from services.mesh.errors import RateLimited
from services.mesh.ratelimit import RateLimiter
from services.mesh.ratelimit_shared import SharedRateLimiter
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support.errors import reason
from tests.support.mesh import Minter, channel_as, probe_app, serving
from tests.support.redis import OwnRedis, own_redis
from tests.support.waiting import until

HELLO = probe.EchoRequest(text="hello")
# Long, so that a busy machine is not taken for a dead Redis.
PATIENT = 10.0


@pytest.fixture(scope="module")
async def redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnRedis]:
    async with own_redis(tmp_path_factory.mktemp("redis"), "probe", "web") as server:
        yield server


@asynccontextmanager
async def limiter(
    url: str, *, service: str = "probe", scale: float = 1.0, timeout: float = PATIENT, capacity: int = 1000
) -> AsyncIterator[SharedRateLimiter]:
    """One replica's."""
    made = SharedRateLimiter(
        url,
        service,
        RateLimiter(time.monotonic, scale=scale),
        time.monotonic,
        logs.logger("tests"),
        scale=scale,
        timeout=timeout,
        capacity=capacity,
    )
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def admitted(
    limiters: list[SharedRateLimiter], key: str, calls: int, seconds: float, tries: int
) -> int:
    """How many of so many calls, spread over the replicas and made at once, find room."""

    async def one(number: int) -> bool:
        try:
            waiting = limiters[number % len(limiters)].take("/m", key, calls, seconds)
            if waiting is not None:
                await waiting
        except RateLimited:
            return False
        return True

    return sum(await asyncio.gather(*(one(number) for number in range(tries))))


@asynccontextmanager
async def replicas(
    pki: Pki, redis: OwnRedis, count: int = 2, **settings: float
) -> AsyncIterator[list[ProbeServiceStub]]:
    """The probe in so many replicas behind the production chain, as the edge sees them."""
    async with AsyncExitStack() as stack:
        stubs = []
        for _ in range(count):
            app = probe_app(pki, Minter(), redis_url=redis.url("probe"))
            mesh = MeshSettings(**{"rate_limit_timeout": PATIENT, **settings})
            address = await stack.enter_async_context(serving(app, mesh))
            channel = await stack.enter_async_context(channel_as("edge", address, "probe", pki))
            stubs.append(ProbeServiceStub(channel))
        yield stubs


def from_address(address: str) -> tuple[tuple[str, str], ...]:
    return (("x-forwarded-for", address),)


async def test_three_an_hour_are_three_over_two_replicas(pki: Pki, redis: OwnRedis) -> None:
    async with replicas(pki, redis) as stubs:
        calls = [
            stubs[number % 2].EchoPublic(HELLO, metadata=from_address("192.0.2.1")) for number in range(20)
        ]
        reasons = await asyncio.gather(*(reason(call) for call in calls))
        assert sorted(reasons) == [""] * 3 + ["RATE_LIMITED"] * 17
        assert await reason(stubs[0].EchoPublic(HELLO, metadata=from_address("192.0.2.2"))) == ""


async def test_a_refusal_says_when_there_is_room_again(pki: Pki, redis: OwnRedis) -> None:
    metadata = (*from_address("192.0.2.3"), ("x-envoy-original-path", "/v1/echo"))
    async with replicas(pki, redis) as stubs:
        for number in range(3):
            await stubs[number % 2].EchoPublic(HELLO, metadata=metadata)
        for stub in stubs:
            # Asked of Redis, then known by heart.
            for _ in range(2):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await stub.EchoPublic(HELLO, metadata=metadata)
                told = dict(raised.value.trailing_metadata() or ())
                assert 1150 <= int(told["retry-after"]) <= 1200
                assert (told["ratelimit-limit"], told["ratelimit-remaining"]) == ("3", "0")
                assert told["ratelimit-reset"] == told["retry-after"]


async def test_the_scale_multiplies_the_shared_limit(pki: Pki, redis: OwnRedis) -> None:
    async with replicas(pki, redis, rate_limit_scale=4.0) as stubs:
        calls = [
            stubs[number % 2].EchoPublic(HELLO, metadata=from_address("192.0.2.4")) for number in range(30)
        ]
        reasons = await asyncio.gather(*(reason(call) for call in calls))
    assert reasons.count("") == 12


async def test_large_limits_are_leased_in_blocks_and_are_one_limit(redis: OwnRedis) -> None:
    calls, seconds = 2000, 3600.0
    async with limiter(redis.url("probe")) as one, limiter(redis.url("probe")) as other:
        assert await admitted([one, other], "blocks", calls, seconds, 3000) == calls
    async with limiter(redis.url("probe")) as one:
        # 600 a minute: ten at a time, of which the first is waited for.
        await (one.take("/m", "fast", 600, 60.0) or asyncio.sleep(0))
        assert [one.take("/m", "fast", 600, 60.0) for _ in range(9)] == [None] * 9
        waiting = one.take("/m", "fast", 600, 60.0)
        assert waiting is not None
        await waiting


async def test_both_replicas_get_their_share(redis: OwnRedis) -> None:
    async with limiter(redis.url("probe")) as one, limiter(redis.url("probe")) as other:
        shares = [0, 0]
        for number in range(300):
            shares[number % 2] += await admitted([(one, other)[number % 2]], "fair", 100, 3600.0, 1)
    assert shares == [50, 50]


async def test_memory_is_bounded(redis: OwnRedis) -> None:
    async with limiter(redis.url("probe"), capacity=50) as one:
        for number in range(200):
            await admitted([one], str(number), 1, 3600.0, 1)
        assert len(one._leases) <= 50


async def test_many_people_at_once_share_few_questions(redis: OwnRedis) -> None:
    async with limiter(redis.url("probe")) as one:

        async def person(number: int) -> int:
            return await admitted([one], f"person {number}", 3, 3600.0, 5)

        assert set(await asyncio.gather(*(person(number) for number in range(1200)))) == {3}


async def test_a_service_reaches_its_own_buckets_only(redis: OwnRedis) -> None:
    client = Redis.from_url(redis.url("web"))
    try:
        for script, key in (
            ("return redis.call('get', KEYS[1])", "ratelimit:probe:x"),
            ("return 1", "probe:x"),
        ):
            with pytest.raises(NoPermissionError):
                await client.eval(script, 1, key)
        with pytest.raises(NoPermissionError):
            await client.script_flush()
        with pytest.raises(NoPermissionError):
            await client.flushall()
        assert await client.eval("return redis.call('get', KEYS[1])", 1, "ratelimit:web:x") is None
    finally:
        await client.aclose()


async def test_redis_started_anew_is_found_again(tmp_path: Path) -> None:
    async with own_redis(tmp_path, "probe") as server, limiter(server.url("probe")) as one:
        assert await admitted([one], "a", 3, 3600.0, 5) == 3
        await server.kill()
        # Alone, with the whole limit, and at once.
        assert await admitted([one], "b", 3, 3600.0, 5) == 3
        assert one.away
        waited = one.take("/m", "c", 3, 3600.0)
        assert waited is None
        await server.start()

        async def away() -> bool:
            return one.away

        await until(away, False, within=30)
        async with limiter(server.url("probe")) as other:
            assert await admitted([one, other], "d", 3, 3600.0, 20) == 3


async def test_a_frozen_redis_delays_one_round_of_calls_and_no_more(tmp_path: Path) -> None:
    async with own_redis(tmp_path, "probe") as server, limiter(server.url("probe"), timeout=0.5) as one:
        server.freeze(frozen=True)
        started = time.monotonic()
        assert await admitted([one], "a", 3, 3600.0, 50) == 3
        # One after another they would wait 25 s.
        assert time.monotonic() - started < 10
        assert one.away
        # Not a single call waits now.
        for number in range(100):
            assert one.take("/m", str(number), 3, 3600.0) is None
        server.freeze(frozen=False)

        async def away() -> bool:
            return one.away

        await until(away, False, within=30)


async def test_a_service_starts_without_redis_and_counts_alone(tmp_path: Path) -> None:
    async with own_redis(tmp_path, "probe") as server:
        await server.kill()
        async with limiter(server.url("probe")) as one:
            assert one.away
            assert await admitted([one], "a", 3, 3600.0, 5) == 3
