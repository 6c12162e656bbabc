"""Two replicas behind the edge: stopped in turn under load, or without Redis, they fail no call."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial

import httpx
import pytest

from sampan.identity.v1 import account_pb2
from services.stack.pki import EDGE
from services.stack.service_parts import replica_key
from services.stack.topology import SERVICES
from tests.conftest import own_stack
from tests.support import http as plain
from tests.support import parts
from tests.support.certificates import renew, serial_on_disk, serial_served
from tests.support.clients import Clients, Person
from tests.support.stack import Stack
from tests.support.waiting import until

GET_ME = "/sampan.identity.v1.IdentityService/GetMe"
REPLICAS = ("people-1", "people-2")


@pytest.fixture(scope="module")
def pair() -> Iterator[Stack]:
    """A stack in which people runs twice."""
    with own_stack(
        "pair",
        {
            "SAMPAN_PROCESS_REPLICAS": '{"people": 2}',
            "SAMPAN_RATE_LIMIT_SCALE": "100000",
            # Housekeeping of both replicas all the time.
            "SAMPAN_IDENTITY_HOUSEKEEPING_SECONDS": "0.05",
        },
        measured=False,
    ) as found:
        yield found


@pytest.fixture
async def people(pair: Stack) -> AsyncIterator[Clients]:
    async with Clients.of(pair) as found:
        yield found


class Load:
    """Calls of one kind, made over and over; counts what each came to."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._stop = False
        self._tasks: list[asyncio.Task[None]] = []

    def keep(self, name: str, call: Callable[[], Awaitable[str]]) -> None:
        """Makes a call, which tells its reason or nothing, until the end."""
        self._tasks.append(asyncio.create_task(self._go_on(name, call)))

    async def _go_on(self, name: str, call: Callable[[], Awaitable[str]]) -> None:
        while not self._stop:
            try:
                reason = await call()
            except (AssertionError, httpx.TransportError) as error:
                reason = repr(error)
            self.seen[f"{name} {reason}".strip()] += 1

    async def end(self) -> Counter[str]:
        """What came of all."""
        self._stop = True
        await asyncio.gather(*self._tasks)
        return self.seen


def load_on(people: Clients, person: Person) -> Load:
    """Reading and writing through every door."""
    load = Load()

    async def rest() -> str:
        return (await people.rest.call("GET", "/v1/me", token=person.token)).reason

    async def grpc() -> str:
        return (await people.grpc.call(GET_ME, b"", account_pb2.Account, token=person.token)).reason

    async def grpc_web() -> str:
        return (await people.grpc_web.call(GET_ME, b"", account_pb2.Account, token=person.token)).reason

    async def register() -> str:
        await people.register()
        return ""

    for name, call in (("rest", rest), ("grpc", grpc), ("grpc_web", grpc_web), ("register", register)):
        for _ in range(2):
            load.keep(name, call)
    return load


async def in_use(pair: Stack) -> int:
    """How many replicas of identity the edge sends calls to: those that nothing speaks against."""
    url = f"http://127.0.0.1:{pair.state.ports['envoy/admin']}/clusters?format=json"
    async with plain.client() as client:
        clusters = (await client.get(url)).json()["cluster_statuses"]
    (identity,) = (one for one in clusters if one["name"] == "identity")
    return sum(
        not any(found is True for found in host["health_status"].values())
        for host in identity["host_statuses"]
    )


async def back(pair: Stack, part: str, killed: int) -> None:
    """Waits until a killed replica is served by another process, and the edge sends calls to both."""
    await parts.another(pair, part, killed)
    number = REPLICAS.index(part)
    address = f"127.0.0.1:{pair.state.ports[replica_key('identity', number)]}"

    async def serves() -> bool:
        # The edge may not have missed it yet, so its word alone would say that it is back.
        try:
            return await serial_served(address, "web", pair.pki) != 0
        except OSError:
            return False

    await until(serves, True, within=30)
    await until(lambda: in_use(pair), 2, within=30)


async def test_each_replica_stopped_in_turn_under_load_fails_no_call(pair: Stack, people: Clients) -> None:
    assert {replica_key("identity", number) for number in (0, 1)} <= set(pair.state.ports)
    person = await people.register()
    load = load_on(people, person)
    for part in REPLICAS:
        await until(lambda: in_use(pair), 2, within=30)
        pid = pair.state.parts[part].pid
        before = load.seen.total()
        os.kill(pid, signal.SIGTERM)
        await until(lambda: in_use(pair), 1, within=30)

        async def is_new(part: str = part, pid: int = pid) -> bool:
            return pair.state.parts[part].pid not in (0, pid)

        await until(is_new, True, within=60)
        assert load.seen.total() > before
    await until(lambda: in_use(pair), 2, within=30)
    seen = await load.end()
    assert set(seen) == {"rest", "grpc", "grpc_web", "register"}, seen
    assert min(seen.values()) > 5, seen
    # Both ended by themselves, well before anybody lost patience.
    journal = (pair.home / "logs" / "supervisor.log").read_text()
    for part in REPLICAS:
        assert f'"{part}"' in journal


async def test_certificates_renewed_under_load_are_taken_up_and_fail_no_call(
    pair: Stack, people: Clients
) -> None:
    person = await people.register()
    load = load_on(people, person)
    pids = {part: running.pid for part, running in pair.state.parts.items()}
    renew(pair.pki, *SERVICES, EDGE)
    for number in (0, 1):
        address = f"127.0.0.1:{pair.state.ports[replica_key('identity', number)]}"
        served = partial(serial_served, address, "web", pair.pki)
        await until(served, serial_on_disk(pair.pki, "identity"), within=30)
    await until(lambda: edge_serials(pair), {serial_on_disk(pair.pki, EDGE)}, within=30)
    before = load.seen.total()

    async def went_on() -> bool:
        return load.seen.total() > before + 200

    await until(went_on, True, within=60)
    seen = await load.end()
    assert set(seen) == {"rest", "grpc", "grpc_web", "register"}, seen
    assert {part: running.pid for part, running in pair.state.parts.items()} == pids


async def edge_serials(pair: Stack) -> set[int]:
    """Serial numbers of the certificates under which the edge connects to services."""
    url = f"http://127.0.0.1:{pair.state.ports['envoy/admin']}/certs"
    async with plain.client() as client:
        found = (await client.get(url)).json()["certificates"]
    return {int(one["serial_number"], 16) for each in found for one in each["cert_chain"]}


async def test_a_killed_replica_costs_no_read_and_only_the_writes_that_it_had_in_hand(
    pair: Stack, people: Clients
) -> None:
    person = await people.register()
    for part in REPLICAS:
        await until(lambda: in_use(pair), 2, within=30)
        load = load_on(people, person)
        await until_more(load, 50)
        killed = parts.kill(pair, part)
        # The other one takes over at once: calls go on while the killed one starts.
        await until_more(load, 50)
        await back(pair, part, killed)
        seen = await load.end()
        failed = {name: count for name, count in seen.items() if " " in name}
        # Two callers register at a time, so that is the most that it had in hand.
        assert sum(failed.values()) <= 2, seen
        assert all(name.startswith("register ") and "UNAVAILABLE" in name for name in failed), seen


async def test_a_write_that_a_killed_replica_had_in_hand_is_done_once_when_sent_again(
    pair: Stack, people: Clients
) -> None:
    await until(lambda: in_use(pair), 2, within=30)
    stop = asyncio.Event()

    async def register_until_acknowledged() -> list[str]:
        """Ids that the tries of one registration were answered with."""
        body = {
            "username": "u" + secrets.token_hex(8),
            "password": secrets.token_urlsafe(12),
            "request_id": str(uuid.uuid4()),
        }
        found = []
        async with asyncio.timeout(20):
            while len(found) < 2:
                reply = await people.rest.call("POST", "/v1/auth/register", body)
                assert reply.code in {201, 503}, reply
                found += [reply.body["id"]] if reply.code == 201 else []
        return found

    async def keep_registering() -> list[list[str]]:
        found = []
        while not stop.is_set():
            found.append(await register_until_acknowledged())
        return found

    callers = [asyncio.create_task(keep_registering()) for _ in range(4)]
    killed = parts.kill(pair, REPLICAS[0])
    await back(pair, REPLICAS[0], killed)
    stop.set()
    for answers in await asyncio.gather(*callers):
        assert answers
        assert all(first == second for first, second in answers)


async def until_more(load: Load, calls: int) -> None:
    """Waits until so many calls more have been answered."""
    enough = load.seen.total() + calls

    async def answered() -> bool:
        return load.seen.total() >= enough

    await until(answered, True, within=20)


async def test_a_frozen_redis_holds_no_call_up(pair: Stack, people: Clients) -> None:
    person = await people.register()
    redis = pair.state.parts["redis"].pid
    os.kill(redis, signal.SIGSTOP)
    try:
        for _ in range(20):
            started = time.monotonic()
            reply = await people.rest.call("GET", "/v1/me", token=person.token)
            assert reply.code == 200, reply
            # Redis is waited for 50 ms by the setting; the rest is for a busy machine.
            assert time.monotonic() - started < 2
    finally:
        os.kill(redis, signal.SIGCONT)


def test_every_replica_is_shown(pair: Stack) -> None:
    status = pair.command("status").stdout
    for number, part in enumerate(REPLICAS):
        (row,) = (line for line in status.splitlines() if line.startswith(part))
        assert f"identity:{pair.state.ports[replica_key('identity', number)]}" in row
