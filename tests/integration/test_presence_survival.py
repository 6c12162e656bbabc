"""Presence when a part is lost: Redis, NATS, PostgreSQL, messaging, or a process of its own."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.mesh import logs
from services.mesh.database import Database
from services.mesh.errors import Unavailable
from services.presence import scripts
from services.presence.domain import Change, State, Status
from services.presence.leases import Leases
from services.presence.preferences import KnownPreferences
from services.presence.settings import PresenceSettings
from services.stack.pki import Pki
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.presence import Heard, Place, Replica, listening, place, servers
from tests.support.proxy import proxy_before
from tests.support.waiting import until


@pytest.fixture
async def here(presence_database: Clone, pki: Pki, tmp_path: Path) -> AsyncIterator[Place]:
    async with (
        servers(tmp_path) as (redis, nats),
        place(pki, presence_database, redis, nats) as found,
    ):
        yield found


@pytest.fixture
async def heard(here: Place) -> AsyncIterator[Heard]:
    async with listening(here.nats) as found:
        yield found


async def within_deadline(call: Awaitable[object], seconds: float) -> str:
    """The reason that a call fails with; it must not take longer than its deadline."""
    started = time.monotonic()
    found = await reason(call)
    assert time.monotonic() - started < seconds
    return found


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_without_redis_calls_fail_in_time_and_all_is_back_after_a_renewal(
    here: Place, heard: Heard, how: str
) -> None:
    somchai, mali = here.friends()
    renewal = (somchai.id, "phone")
    await here.replicas[0].renew(renewal)
    await until(lambda: heard.last(somchai.id), "online", within=20)
    if how == "killed":
        await here.redis.kill()
    else:
        here.redis.freeze(frozen=True)
    for _ in range(3):
        assert await within_deadline(mali.sees(somchai.id), 5) == "UNAVAILABLE"
        assert await within_deadline(somchai.sets("away"), 5) == "UNAVAILABLE"
        assert await within_deadline(here.replicas[0].renew(renewal), 2) == "UNAVAILABLE"
        assert await within_deadline(here.replicas[0].end(renewal), 2) == "UNAVAILABLE"
    # What stands in PostgreSQL goes on.
    assert (await somchai.prefers(last_seen_hidden=True)).last_seen_hidden
    if how == "killed":
        await here.redis.start()
    else:
        here.redis.freeze(frozen=False)

    async def renewed() -> str:
        return await reason(here.replicas[0].renew(renewal))

    await until(renewed, "", within=20)
    assert await mali.status(somchai.id) == "online"
    await here.replicas[0].end(renewal)
    await until(lambda: heard.last(somchai.id), "offline", within=20)


async def test_calls_at_once_do_not_wait_for_each_other_on_a_frozen_redis(here: Place) -> None:
    somchai, mali = here.friends()
    here.redis.freeze(frozen=True)
    started = time.monotonic()
    reasons = await asyncio.gather(*(reason(mali.sees(somchai.id)) for _ in range(30)))
    assert set(reasons) == {"UNAVAILABLE"}
    # The setting is 1 s, a call's deadline 5 s: one after another they would take 30 s.
    assert time.monotonic() - started < 5


async def test_when_redis_has_forgotten_all_everybody_is_offline_until_heard_of(
    here: Place, heard: Heard
) -> None:
    somchai, mali = here.friends()
    await here.replicas[0].renew((somchai.id, "phone"), (mali.id, "phone"))
    await until(lambda: heard.last(mali.id), "online", within=20)
    await here.redis.kill()
    await here.redis.start()

    async def status() -> str:
        found = await asyncio.gather(mali.sees(somchai.id), return_exceptions=True)
        return "" if isinstance(found[0], BaseException) else found[0][0].status

    await until(status, "offline", within=20)
    await here.replicas[0].renew((somchai.id, "phone"))
    assert await mali.status(somchai.id) == "online"
    # Mali went while Redis knew nothing of her: others are told all the same.
    await here.replicas[0].end((mali.id, "phone"))
    await until(lambda: heard.last(mali.id), "offline", within=20)


async def test_what_happens_while_the_bus_is_away_is_told_afterwards_as_it_is_then(here: Place) -> None:
    stays, goes, comes = here.friends(3)
    one = here.replicas[0]
    async with listening(here.nats) as before:
        await one.renew((stays.id, "phone"), (goes.id, "phone"))
        for person in (stays, goes):
            await until(lambda: before.last(person.id), "online", within=20)  # noqa: B023
    await here.nats.kill()
    await one.end((stays.id, "phone"), (goes.id, "phone"))
    await until(lambda: comes.status(goes.id), "offline", within=20)
    await one.renew((stays.id, "phone"), (comes.id, "phone"))
    assert await goes.status(comes.id) == "online"
    await here.nats.start()
    async with listening(here.nats) as heard:
        # A listener of a new connection may miss what is told at once: then it is asked for, not heard.
        async def last_told() -> list[str]:
            client = Redis.from_url(here.redis.url("presence"), decode_responses=True)
            try:
                keys = [scripts.PERSON + who.id for who in (stays, goes, comes)]
                return [await client.hget(key, "shown") or "" for key in keys]
            finally:
                await client.aclose()

        await until(last_told, ["online", "offline", "online"], within=20)
        assert heard.of(stays.id) == []


async def test_a_change_that_its_process_did_not_tell_is_told_by_another(here: Place, heard: Heard) -> None:
    somchai = here.somebody()
    client = Redis.from_url(here.redis.url("presence"), decode_responses=True)
    try:
        # As a process leaves it that is killed between claiming and telling.
        clock = await client.time()
        soon = clock[0] * 1000 + 700
        claimed = {"seen": soon, "claim": soon, "turn": 5, "shown": "offline", "l001pphone": soon + 60_000}
        await client.hset(scripts.PERSON + somchai.id, mapping=claimed)
        await client.zadd(scripts.DUE, {somchai.id: soon})
        await until(lambda: heard.last(somchai.id), "online", within=20)
    finally:
        await client.aclose()
    assert heard.of(somchai.id) == ["online"]


async def test_a_change_that_was_told_but_not_noted_is_not_taken_for_untold(
    here: Place, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    somchai, lost = here.somebody(), []

    async def is_lost(_: Leases, changes: Iterable[Change]) -> None:
        lost.extend(changes)
        raise Unavailable

    monkeypatch.setattr(Leases, "told", is_lost)
    await here.replicas[0].renew((somchai.id, "phone"))
    await until(lambda: told_online(heard, somchai.id), True, within=20)
    monkeypatch.undo()
    # Gone again before anybody looks anew: as it was before, but not as others have heard.
    await here.replicas[0].end((somchai.id, "phone"))
    await until(lambda: heard.last(somchai.id), "offline", within=20)
    assert lost


async def test_a_change_that_is_told_late_does_not_stand_for_the_last_one(here: Place, heard: Heard) -> None:
    somchai = here.somebody()
    await here.replicas[0].renew((somchai.id, "phone"))
    await until(lambda: heard.last(somchai.id), "online", within=20)
    leases = leases_of(here)
    try:
        # A process that was held up since its turn has said what is no longer so.
        await leases.told([Change(uuid.UUID(somchai.id), State(Status.OFFLINE, None), anew=False, turn=0)])
    finally:
        await leases.close()
    await until(lambda: amount(heard, somchai.id), 2, within=20)
    assert heard.of(somchai.id) == ["online", "online"]


def leases_of(place: Place) -> Leases:
    """Leases as a process of presence has them."""
    settings = PresenceSettings.model_construct(redis_url=SecretStr(place.redis.url("presence")))
    return Leases(settings, time.monotonic, logs.logger("tests"))


async def amount(heard: Heard, user_id: str) -> int:
    """How often somebody was told of."""
    return len(heard.of(user_id))


async def test_one_process_of_several_is_enough(here: Place, heard: Heard) -> None:
    async with AsyncExitStack() as stack:
        third = await stack.enter_async_context(here.replica())
        somchai = here.somebody()
        await third.renew((somchai.id, "phone"), seconds=3)
        await until(lambda: told_online(heard, somchai.id), True, within=20)
        await stack.aclose()
        await until(lambda: heard.last(somchai.id), "offline", within=20)
    # Who goes between saying and having said is said again by another.
    assert [status for status, _ in itertools.groupby(heard.of(somchai.id))] == ["online", "offline"]


async def told_online(heard: Heard, user_id: str) -> bool:
    """Whether it was told that somebody is there, whatever was told since."""
    return "online" in heard.of(user_id)


async def test_a_device_that_flaps_is_told_once_a_second_and_at_last_as_it_is(
    presence_database: Clone, pki: Pki, tmp_path: Path
) -> None:
    settings = {"linger_seconds": 0, "change_seconds": 1.0}
    async with (
        servers(tmp_path) as (redis, nats),
        place(pki, presence_database, redis, nats, **settings) as here,
        listening(nats) as heard,
    ):
        somchai, replica = here.somebody(), here.replicas[0]
        device, started = (somchai.id, "phone"), time.monotonic()
        while time.monotonic() - started < 2.5:
            await replica.renew(device)
            await replica.end(device)
        for last in ("online", "offline"):
            if last == "online":
                await replica.renew(device)
            else:
                await replica.end(device)
            await until(lambda: heard.last(somchai.id), last, within=20)
        took = time.monotonic() - started
        assert len(heard.of(somchai.id)) <= 2 + took
        # Told only what has changed.
        told = heard.of(somchai.id)
        assert all(one != two for one, two in itertools.pairwise(told))


async def test_without_messaging_nobody_is_shown(here: Place) -> None:
    somchai, mali = here.friends()
    await here.replicas[0].renew((somchai.id, "phone"))
    for address in ("127.0.0.1:1", ""):
        lonely = replace(here, messaging=address)
        async with lonely.replica() as replica:
            viewer = mali.at(replica)
            assert await within_deadline(viewer.sees(somchai.id), 5) == "UNAVAILABLE"
            # Oneself is nobody else's business.
            assert [found.status for found in await viewer.sees(mali.id)] == ["offline"]


async def test_without_postgresql_nobody_is_shown_and_leases_go_on(
    here: Place, presence_database: Clone, heard: Heard
) -> None:
    somchai, mali = here.friends()
    async with (
        proxy_before(presence_database.runtime_url) as proxy,
        replace(
            here, database=replace(presence_database, runtime_url=proxy.url(presence_database.runtime_url))
        ).replica(database_timeout=0.5) as alone,
    ):
        viewer = mali.at(alone)
        await alone.renew((somchai.id, "phone"))
        assert await viewer.status(somchai.id) == "online"
        proxy.stop()

        async def refused() -> str:
            return await reason(viewer.sees(somchai.id))

        # What was known may be used for less than a second more.
        assert await until(refused, "UNAVAILABLE", within=20) < 3
        limited = await alone.renew((somchai.id, "phone"))
        assert [(who.user_id, who.last_seen_hidden, who.invisible) for who in limited] == [
            (somchai.id, True, True)
        ]


async def test_renewals_at_once_of_many_processes_lose_nobody(here: Place, heard: Heard) -> None:
    people = [here.somebody() for _ in range(200)]
    viewer = here.somebody()
    here.contacts.pairs |= {frozenset((viewer.id, person.id)) for person in people}

    async def renew(number: int, replica: Replica) -> None:
        devices = [(person.id, f"d{number}") for person in people]
        await replica.renew(*devices, process=f"p{number}")

    async with AsyncExitStack() as stack:
        patient = [await stack.enter_async_context(here.replica(redis_timeout=10.0)) for _ in range(2)]
        await asyncio.gather(*(renew(number, patient[number % 2]) for number in range(10)))
    for half in (people[:100], people[100:]):
        assert {found.status for found in await viewer.sees(*(one.id for one in half))} == {"online"}

    async def told() -> int:
        return sum(heard.of(person.id) == ["online"] for person in people)

    await until(told, 200, within=20)


async def test_following_ends_when_it_is_told_to_at_whatever_moment(presence_database: Clone) -> None:
    database = Database(presence_database.runtime_url, pool=2, timeout=4, name="presence")
    settings = PresenceSettings.model_construct(
        preferences_fresh_seconds=0.8, preferences_poll_seconds=0.0001, preferences_capacity=10
    )
    known = KnownPreferences(database, settings, time.monotonic, logs.logger("tests"))
    try:
        for number in range(300):
            following = asyncio.create_task(known.follow())
            await asyncio.sleep(0.0001 * (number % 60))
            following.cancel()
            done, _ = await asyncio.wait([following], timeout=10)
            assert done
            assert following.cancelled(), following.exception()
    finally:
        await database.close()


async def test_a_question_to_redis_ends_when_it_is_told_to_at_whatever_moment(here: Place) -> None:
    # The client swallows a cancellation now and then, mostly while it connects.
    async def sweeping(leases: Leases) -> None:
        while True:
            await leases.sweep()

    for number in range(80):
        leases = leases_of(here)
        task = asyncio.create_task(sweeping(leases))
        await asyncio.sleep(0.0001 * number)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=10)
        assert done
        assert task.cancelled(), task.exception()
        await leases.close()
