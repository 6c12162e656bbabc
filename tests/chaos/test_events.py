"""A sign-in on a new device is told to its person once, whatever dies or is away on the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import grpc
import httpx
import pytest

from tests.support import faults
from tests.support.clients import Clients, Person
from tests.support.mailbox import Mailbox
from tests.support.mesh import channel_as
from tests.support.stack import Stack
from tests.support.waiting import until

# Seconds in which a notice must be there after whatever happened has passed.
WITHIN = 30


@pytest.fixture
async def people(victim: Stack) -> AsyncIterator[Clients]:
    async with Clients.of(victim) as found:
        yield found


@pytest.fixture
async def mailbox(victim: Stack) -> AsyncIterator[Mailbox]:
    address = f"127.0.0.1:{victim.state.ports['notification']}"
    async with channel_as("operator", address, "notification", victim.pki) as channel:
        yield Mailbox(channel)


@pytest.fixture
async def owner(victim: Stack) -> AsyncIterator[asyncpg.Connection]:
    """Identity's database."""
    connection = await asyncpg.connect(victim.addresses.database("identity", owner=True))
    yield connection
    await connection.close()


def email() -> str:
    return f"{secrets.token_hex(8)}@example.com"


async def sign_in(people: Clients, person: Person, device: str) -> int:
    """Signs in from a device; returns the HTTP status, or 0 when there was none."""
    body = {"username": person.username, "password": person.password}
    try:
        reply = await people.http.post("/v1/auth/login", json=body, headers={"user-agent": device})
    except httpx.TransportError:
        return 0
    return reply.status_code


async def signed_in(people: Clients, person: Person, device: str) -> None:
    """Signs in, again until it is acknowledged."""

    async def status() -> int:
        return await sign_in(people, person, device)

    await until(status, 200, within=WITHIN)


async def devices_told(mailbox: Mailbox, to: str) -> list[str]:
    """Devices of which somebody was told, by name."""
    try:
        texts = [one.body for one in await mailbox.all(to) if one.template == "new_device"]
    except grpc.RpcError:
        return ["notification is away"]
    return sorted(text.split(": ")[1].split(". ")[0] for text in texts)


async def all_told(mailbox: Mailbox, to: str, devices: list[str]) -> None:
    """Each device is told, and once."""
    await until(lambda: devices_told(mailbox, to), sorted(devices), within=WITHIN)


async def registered(people: Clients, address: str) -> Person:
    """Somebody new, as soon as what the test before has killed is back."""

    async def well() -> int:
        try:
            return (await people.http.get("/healthz")).status_code
        except httpx.TransportError:
            return 0

    await until(well, 200, within=WITHIN)
    return await people.register(email=address)


async def drained(owner: asyncpg.Connection) -> float:
    async def waiting() -> int:
        return int(await owner.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL"))

    return await until(waiting, 0, within=WITHIN)


async def settled(victim: Stack) -> None:
    """Notification has consumed all sign-ins of identity."""
    connection = await asyncpg.connect(victim.addresses.database("notification", owner=True))
    identity = await asyncpg.connect(victim.addresses.database("identity", owner=True))

    async def left() -> int:
        wanted = await identity.fetch("SELECT id FROM outbox WHERE subject LIKE '%.session.created'")
        found = await connection.fetch("SELECT event_id FROM inbox")
        return len({row[0] for row in wanted} - {row[0] for row in found})

    try:
        await until(left, 0, within=WITHIN)
    finally:
        await connection.close()
        await identity.close()


async def test_only_a_device_that_is_new_for_its_person_is_told(
    victim: Stack, people: Clients, mailbox: Mailbox
) -> None:
    address = email()
    person = await registered(people, address)
    await sign_in(people, person, "Pixel 9")
    await sign_in(people, person, "Pixel 9")
    await sign_in(people, person, "iPhone 17")
    await settled(victim)
    await all_told(mailbox, address, ["Pixel 9", "iPhone 17"])


@pytest.mark.parametrize(
    "point", ["outbox.before_commit", "relay.after_publish", "consumer.after_effect", "consumer.after_commit"]
)
async def test_a_kill_anywhere_on_the_way_leaves_one_notice(
    victim: Stack, people: Clients, mailbox: Mailbox, owner: asyncpg.Connection, folder: Path, point: str
) -> None:
    address = email()
    person = await registered(people, address)
    await settled(victim)
    await drained(owner)
    with faults.armed(folder, point, "kill"):
        await signed_in(people, person, "Pixel 9")
        await all_told(mailbox, address, ["Pixel 9"])
        await settled(victim)
    assert await devices_told(mailbox, address) == ["Pixel 9"]


async def test_sign_in_works_while_nats_is_away_and_notices_come_after(
    victim: Stack, people: Clients, mailbox: Mailbox, owner: asyncpg.Connection, pytestconfig: pytest.Config
) -> None:
    address = email()
    person = await registered(people, address)
    await settled(victim)
    devices: list[str] = []
    # The server hangs: its supervisor kills it when it has not answered for a while.
    nats = victim.state.parts["nats"].pid
    os.kill(nats, signal.SIGSTOP)
    over = asyncio.get_running_loop().time() + (60 if pytestconfig.getoption("--long") else 5)
    try:
        while asyncio.get_running_loop().time() < over:
            devices.append(f"Device {len(devices)}")
            assert await sign_in(people, person, devices[-1]) == 200
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(nats, signal.SIGCONT)
    await drained(owner)
    await settled(victim)
    told = await devices_told(mailbox, address)
    assert len(told) == len(set(told)) == min(len(devices), 100)


async def test_a_lost_store_of_jetstream_is_filled_again_and_nobody_is_told_twice(
    victim: Stack, people: Clients, mailbox: Mailbox, owner: asyncpg.Connection
) -> None:
    address = email()
    person = await registered(people, address)
    await signed_in(people, person, "Pixel 9")
    await settled(victim)
    made_at = "SELECT stream_created_at FROM outbox_head"
    before = await owner.fetchval(made_at)
    nats = victim.state.parts["nats"].pid
    # It writes to its store also when nobody says anything; what it is without it is all the same.
    os.kill(nats, signal.SIGSTOP)
    shutil.rmtree(victim.home / "nats" / "jetstream")
    os.kill(nats, signal.SIGKILL)
    await signed_in(people, person, "iPhone 17")

    async def refilled() -> int:
        made = await owner.fetchval("SELECT count(*) FROM outbox")
        known = await owner.fetchval("SELECT stream_sequence FROM outbox_head")
        return int(made - known)

    await until(refilled, 0, within=WITHIN)
    assert await owner.fetchval(made_at) > before
    await settled(victim)
    await all_told(mailbox, address, ["Pixel 9", "iPhone 17"])
