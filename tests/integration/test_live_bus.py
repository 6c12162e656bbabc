"""Live delivery when NATS is gone, hangs or loses messages: the log is the truth, the bus a hint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh import faults
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.bus import NatsServer, nats_server
from tests.support.databases import Clone
from tests.support.live import Chat, chat
from tests.support.waiting import until


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A NATS server of one test's own."""
    async with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
async def live(
    messaging_database: Clone,
    identity: tuple[App, str],
    identity_database: Clone,
    pki: Pki,
    nats: NatsServer,
) -> AsyncIterator[Chat]:
    """Two replicas of messaging that hear each other."""
    async with chat(messaging_database, identity, identity_database.owner_url, pki, nats) as found:
        await found.hears(True)
        yield found


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_without_nats_messages_arrive_within_two_seconds(
    live: Chat, nats: NatsServer, how: str
) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    devices = [await live.device(bob, replica).live() for replica in (0, 1)]
    await ann.say(dialog.id)
    for device in devices:
        await device.has(dialog.id, 2)
    await (nats.kill() if how == "kill" else nats.freeze())
    for seq in range(3, 6):
        assert (await ann.say(dialog.id)).seq == seq
        for device in devices:
            # This is a bar of the contract: 2 s.
            await device.has(dialog.id, seq, within=2)
    await (nats.start() if how == "kill" else nats.thaw())
    await live.hears(True)
    await ann.say(dialog.id)
    for device in devices:
        await device.has(dialog.id, 6)
        assert device.seqs(dialog.id) == list(range(2, 7))


async def test_without_nats_people_still_come_and_go(live: Chat, nats: NatsServer) -> None:
    ann, eve = await live.people(2)
    old = await ann.group(eve)
    device = await live.device(eve, 1).live()
    await nats.kill()
    new = await ann.group(eve)
    await device.has(new.id, 1, within=3)
    await ann.RemoveMember(pb.RemoveMemberRequest(dialog_id=old.id, user_id=eve.id))
    await ann.say(old.id, "without her")
    await device.becomes(lambda: any(head.left for head in device.all("heads")), within=2)
    assert device.seqs(old.id) == [2]


async def test_what_was_written_without_nats_by_another_replica_is_there_when_it_is_back(
    live: Chat, nats: NatsServer
) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = await live.device(bob, 1).live()
    await nats.kill()
    await live.hears(False)
    await asyncio.gather(*(ann.say(dialog.id) for _ in range(300)))
    await nats.start()
    await device.has(dialog.id, 301)
    assert device.seqs(dialog.id) == list(range(2, 302))


async def test_a_lost_last_message_is_found(live: Chat, tmp_path: Path) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = await live.device(bob, 1).live()
    await ann.say(dialog.id)
    await device.has(dialog.id, 2)
    faults.use(tmp_path)
    try:
        faults.arm(tmp_path, "messaging.live.publish", faults.Fault("raise", times=1))
        await ann.say(dialog.id)
        await device.has(dialog.id, 3, within=20)
        assert faults.read(tmp_path, "messaging.live.publish").fired == 1
    finally:
        faults.use(None)


async def test_a_lost_message_is_filled_in_when_the_next_comes(live: Chat, tmp_path: Path) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = await live.device(bob, 1).live()
    faults.use(tmp_path)
    try:
        faults.arm(tmp_path, "messaging.live.publish", faults.Fault("raise", times=1))
        await ann.say(dialog.id)

        async def lost() -> int:
            return faults.read(tmp_path, "messaging.live.publish").fired

        await until(lost, 1, within=20)
        await ann.say(dialog.id)
        await device.has(dialog.id, 3)
        assert device.seqs(dialog.id) == [2, 3]
    finally:
        faults.use(None)
