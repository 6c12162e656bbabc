"""Live delivery and presence: which devices are here, and who hears that somebody came or went."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.presence.v1 import presence_internal_service_pb2 as presence
from sampan.presence.v1.events_pb2 import PresenceChanged
from services.mesh.app import App
from services.mesh.bus import flushed
from services.stack.pki import Pki
from tests.support.bus import ADMIN, NatsServer, nats_server
from tests.support.databases import Clone
from tests.support.live import Chat, chat
from tests.support.mesh import serving
from tests.support.replicas import playing
from tests.support.waiting import until

PRESENCE = "sampan.presence.v1.PresenceInternalService"


class PlayedPresence:
    """Remembers which devices it was told of."""

    def __init__(self) -> None:
        self.here: set[tuple[str, str]] = set()
        self.renewals = 0

    async def RenewLeases(self, request: Any, _call: Any) -> presence.RenewLeasesResponse:  # noqa: N802
        self.renewals += 1
        self.here |= {(lease.user_id, lease.device_id) for lease in request.leases}
        return presence.RenewLeasesResponse()

    async def EndLeases(self, request: Any, _call: Any) -> presence.EndLeasesResponse:  # noqa: N802
        self.here -= {(lease.user_id, lease.device_id) for lease in request.leases}
        return presence.EndLeasesResponse()

    async def knows(self) -> set[tuple[str, str]]:
        return set(self.here)


@pytest.fixture
async def told() -> PlayedPresence:
    """What presence was told."""
    return PlayedPresence()


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
    told: PlayedPresence,
) -> AsyncIterator[Chat]:
    """Messaging with a presence that a test plays."""
    url = identity_database.owner_url
    async with (
        serving(playing("presence", PRESENCE, told, pki)) as address,
        chat(
            messaging_database,
            identity,
            url,
            pki,
            nats,
            replicas=1,
            peers={"presence": [address]},
            presence_lease_seconds=3,
        ) as found,
    ):
        await found.hears(True)
        yield found


async def test_presence_is_told_which_devices_are_here(live: Chat, told: PlayedPresence) -> None:
    (ann,) = await live.people(1)
    phone = [await live.device(ann, name="phone").live() for _ in range(2)]
    nameless = await live.device(ann).live()
    await until(told.knows, {(ann.id, "phone"), (ann.id, "~")}, within=20)
    # One of two streams of a device does not make it gone.
    await phone[0].close()
    await nameless.close()
    await until(told.knows, {(ann.id, "phone")}, within=20)
    told.here.clear()
    await until(told.knows, {(ann.id, "phone")}, within=20)
    await phone[1].close()
    await until(told.knows, set(), within=20)


async def test_those_who_share_a_dialog_hear_who_comes_and_strangers_and_the_blocked_do_not(
    live: Chat, nats: NatsServer
) -> None:
    ann, bob, eve, dan = await live.people(4)
    await ann.direct(bob)
    await ann.direct(dan)
    await ann.BlockUser(pb.BlockUserRequest(user_id=dan.id))
    devices = {who.id: await live.device(who).live() for who in (bob, eve, dan)}
    async with nats.client(ADMIN) as client:
        for status in ("online", "away"):
            change = PresenceChanged(user_id=ann.id, status=status)
            await client.publish("sampan.presence.changed.00", change.SerializeToString())
            await client.publish("sampan.presence.changed.00", b"\xff\xff")
            await flushed(client)
            await devices[bob.id].becomes(
                lambda status=status: [one.status for one in devices[bob.id].all("presence")][-1:] == [status]
            )
    assert devices[bob.id].all("presence")[0].user_id == ann.id
    assert not devices[eve.id].all("presence")
    assert not devices[dan.id].all("presence")


async def test_without_presence_streams_work(
    messaging_database: Clone, identity: tuple[App, str], identity_database: Clone, pki: Pki
) -> None:
    url = identity_database.owner_url
    peers = {"presence": ["127.0.0.1:1"]}
    async with chat(
        messaging_database, identity, url, pki, None, replicas=1, peers=peers, presence_lease_seconds=3
    ) as live:
        ann, bob = await live.people(2)
        dialog = await ann.direct(bob)
        device = await live.device(bob).live()
        await ann.say(dialog.id)
        await device.has(dialog.id, 2)
