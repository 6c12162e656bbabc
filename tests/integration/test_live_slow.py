"""Slow readers, stops of a replica, and devices that come and go at random."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh import faults
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.bus import NatsServer, nats_server
from tests.support.chat import Talker
from tests.support.databases import Clone
from tests.support.live import Chat, Device, chat
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def nats(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    """A NATS server of this module's own."""
    async with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def live(
    messaging_database: Clone,
    identity: tuple[App, str],
    identity_database: Clone,
    pki: Pki,
    nats: NatsServer,
) -> AsyncIterator[Chat]:
    """Two replicas of messaging with small queues."""
    url = identity_database.owner_url
    async with chat(messaging_database, identity, url, pki, nats, stream_queue_bytes=16 * 1024) as found:
        await found.hears(True)
        yield found


async def test_a_slow_reader_does_not_grow_memory_and_loses_nothing(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = Device(live.replicas[1].stub, bob.token)
    call: Any = device.stub.Subscribe(pb.SubscribeRequest(), metadata=device.metadata)
    async for frame in call:
        device.take(frame)
        if frame.live:
            break
    # It reads nothing while some megabytes are written, more than the transport takes.
    for _ in range(12):
        await asyncio.gather(*(ann.say(dialog.id, "x" * 8000) for _ in range(50)))
    hub = live.replicas[1].hub
    (session,) = [one for person in hub.people.values() for one in person.sessions]

    async def dropped() -> bool:
        return bool(hub.dropped > 0)

    # It hears of them from the other replica.
    await until(dropped, True, within=20)
    assert session._size <= 32 * 1024
    async for frame in call:
        device.take(frame)
        if 601 in device.seqs(dialog.id):
            break
    call.cancel()
    assert device.seqs(dialog.id) == list(range(2, 602))
    back = await live.device(bob, resume=device.resume).live()
    assert back.seqs(dialog.id) == []


async def test_streams_of_a_replica_that_stops_go_on_at_another(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = await live.device(bob, 1).live()
    sending = asyncio.create_task(_send(ann, dialog.id, 100))
    await device.has(dialog.id, 20)
    stopping = asyncio.create_task(
        live.replicas[1].running.server.stop(notice=0, grace=5, drain=live.replicas[1].app.drain)
    )
    end = await device.ends()
    assert end is not None
    assert end.reason == "DRAINING"
    assert 50 <= end.retry_after_ms <= 1000
    again = live.device(bob, 0, resume=device.resume)
    await sending
    await stopping
    await again.has(dialog.id, 101)
    assert device.seqs(dialog.id) + again.seqs(dialog.id) == list(range(2, 102))


async def _send(who: Talker, dialog_id: str, count: int) -> None:
    for number in range(count):
        await who.say(dialog_id, str(number))


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_every_device_gets_every_event_once_and_in_order(
    live: Chat, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    ann, bob, eve = await live.people(3)
    dialogs = [(await ann.direct(bob)).id, (await ann.group(bob, eve)).id, (await eve.direct(bob)).id]
    members = {dialogs[0]: (ann, bob), dialogs[1]: (ann, bob, eve), dialogs[2]: (eve, bob)}
    walkers = [_Walker(live, who, chance) for who in (ann, bob, bob, eve)]
    for walker in walkers:
        await walker.come()
    faults.use(tmp_path)
    try:
        for _ in range(60):
            await _something(live, chance, members, walkers, tmp_path)
    finally:
        faults.use(None)
    for walker in walkers:
        await walker.come()
    for where, people in members.items():
        last = (await people[0].see(where)).last_seq
        for walker in walkers:
            if walker.who in people and last > 1:
                await walker.has(where, last)
                assert walker.seqs(where) == list(range(2, last + 1)), (seed, where)


async def _something(
    live: Chat,
    chance: random.Random,
    members: dict[str, tuple[Talker, ...]],
    walkers: list[_Walker],
    folder: Path,
) -> None:
    """People write at both replicas, a device goes or comes, or messages between replicas get lost."""
    match chance.randrange(6):
        case 0 | 1 | 2:
            where = chance.choice(list(members))
            writers = chance.choices(members[where], k=chance.randrange(1, 20))
            await asyncio.gather(*(live.at(chance.randrange(2), who).say(where) for who in writers))
        case 3:
            await chance.choice(walkers).go()
        case 4:
            await chance.choice(walkers).come()
        case 5:
            fault = faults.Fault("raise", times=chance.randrange(1, 6))
            faults.arm(folder, "messaging.live.publish", fault)


class _Walker:
    """A device that goes away, sometimes in the middle of a frame, and comes back anywhere."""

    def __init__(self, live: Chat, who: Talker, chance: random.Random) -> None:
        self.live = live
        self.who = who
        self._chance = chance
        self._resume = ""
        self._past: list[Device] = []
        self._device: Device | None = None

    async def come(self) -> None:
        if self._device is None:
            replica = self._chance.randrange(2)
            self._device = await self.live.device(self.who, replica, resume=self._resume).live()

    async def go(self) -> None:
        if self._device is not None:
            await self._device.close()
            self._resume = self._device.resume
            self._past.append(self._device)
            self._device = None

    async def has(self, dialog_id: str, last: int) -> None:
        assert self._device is not None
        if last not in self.seqs(dialog_id):
            await self._device.becomes(lambda: last in self.seqs(dialog_id))

    def seqs(self, dialog_id: str) -> list[int]:
        devices = [*self._past, *([self._device] if self._device else [])]
        return [seq for device in devices for seq in device.seqs(dialog_id)]


async def test_an_idle_stream_gets_heartbeats(
    messaging_database: Clone, identity: tuple[App, str], identity_database: Clone, pki: Pki
) -> None:
    url = identity_database.owner_url
    async with chat(messaging_database, identity, url, pki, None, replicas=1, heartbeat_seconds=1) as live:
        (ann,) = await live.people(1)
        device = await live.device(ann).live()
        await device.becomes(lambda: sum(frame.HasField("heartbeat") for frame in device.frames) >= 2)
        assert not any(frame.resume for frame in device.frames if frame.HasField("heartbeat"))
