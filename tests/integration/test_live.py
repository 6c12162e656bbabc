"""Live delivery over gRPC: order, resume, several replicas, slow readers, and what clients do wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.bus import NatsServer, nats_server
from tests.support.databases import Clone
from tests.support.live import Chat, chat


@pytest.fixture(scope="module")
async def nats(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    """A NATS server of this module's own."""
    async with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
async def live(
    messaging_database: Clone,
    identity: tuple[App, str],
    identity_database: Clone,
    pki: Pki,
    nats: NatsServer,
) -> AsyncIterator[Chat]:
    """Two replicas of messaging."""
    async with chat(messaging_database, identity, identity_database.owner_url, pki, nats) as found:
        yield found


async def test_devices_on_different_replicas_see_the_same_order(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    devices = [live.device(ann, 0), live.device(ann, 1), live.device(bob, 1)]
    for device in devices:
        await device.live()
    sent = [await asyncio.gather(ann.say(dialog.id, "a"), bob.say(dialog.id, "b")) for _ in range(10)]
    last = max(message.seq for pair in sent for message in pair)
    for device in devices:
        await device.has(dialog.id, last)
        assert device.seqs(dialog.id) == list(range(2, last + 1))
    texts = [[event.message_created.content.text for event in one.events(dialog.id)] for one in devices]
    assert texts[0] == texts[1] == texts[2]


async def test_a_device_that_was_away_gets_exactly_what_it_missed(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = await live.device(bob).live()
    await ann.say(dialog.id, "before")
    await device.has(dialog.id, 2)
    await device.close()
    for _ in range(20):
        await asyncio.gather(*(ann.say(dialog.id) for _ in range(50)))
    back = await live.device(bob, 1, resume=device.resume).live()
    assert back.seqs(dialog.id) == list(range(3, 1003))
    await ann.say(dialog.id, "after")
    await back.has(dialog.id, 1003)
    assert back.seqs(dialog.id) == list(range(3, 1004))


async def test_a_device_comes_back_by_its_name_to_where_it_acknowledged(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = await live.device(bob, name="phone").live()
    await ann.say(dialog.id, "read")
    await device.has(dialog.id, 2)
    await bob.AckEvents(pb.AckEventsRequest(device_id="phone", resume=device.resume))
    await ann.say(dialog.id, "written, but not acknowledged")
    await device.has(dialog.id, 3)
    await device.close()
    await ann.say(dialog.id, "missed")
    back = await live.device(bob, 1, name="phone").live()
    assert back.seqs(dialog.id) == [3, 4]
