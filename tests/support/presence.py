"""Presence for tests: people, devices, who shares a dialog with whom, and what is said on the bus."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sampan.messaging.v1 import messaging_internal_service_pb2 as messaging_pb
from sampan.presence.v1 import events_pb2
from sampan.presence.v1 import presence_internal_service_pb2 as internal
from sampan.presence.v1 import presence_service_pb2 as pb
from sampan.presence.v1.presence_internal_service_pb2_grpc import PresenceInternalServiceStub
from sampan.presence.v1.presence_service_pb2_grpc import PresenceServiceStub
from services.mesh.app import App
from services.mesh.bus import flushed
from services.mesh.call import Call
from services.mesh.settings import MeshSettings, ServiceSettings
from services.presence.events import bucket
from services.stack.pki import Pki
from tests.support.bus import ADMIN, NatsServer
from tests.support.databases import Clone, presence_app
from tests.support.mesh import Minter, channel_as, serving, settings_of
from tests.support.redis import OwnRedis

# Short, so that tests are: a lease is told in whole seconds.
QUICK = {"linger_seconds": 0.5, "change_seconds": 0.2, "sweep_seconds": 0.05, "claim_seconds": 1.0}
CHANGED = "sampan.presence.changed."


class ContactsServicer:
    """Messaging as presence sees it. `pairs` are those who share a dialog."""

    def __init__(self) -> None:
        self.pairs: set[frozenset[str]] = set()

    async def FilterContacts(  # noqa: N802 - named by the contract
        self, request: messaging_pb.FilterContactsRequest, _: Call
    ) -> messaging_pb.FilterContactsResponse:
        found = [other for other in request.others if frozenset((request.user_id, other)) in self.pairs]
        return messaging_pb.FilterContactsResponse(user_ids=found)

    def __getattr__(self, method: str) -> Any:
        async def other(*_: object) -> None:
            raise AssertionError(f"presence has no business with {method}")

        return other


@dataclass
class Heard:
    """What was said of people, in order, and whether it came under the right subject."""

    said: list[tuple[str, str]] = field(default_factory=list)
    events: list[events_pb2.PresenceChanged] = field(default_factory=list)
    preferences: list[events_pb2.PreferencesChanged] = field(default_factory=list)

    def hear(self, subject: str, data: bytes) -> None:
        """Takes one message."""
        if not subject.startswith(CHANGED):
            self.preferences.append(events_pb2.PreferencesChanged.FromString(data))
            return
        event = events_pb2.PresenceChanged.FromString(data)
        assert subject == CHANGED + bucket(uuid.UUID(event.user_id))
        self.events.append(event)
        self.said.append((event.user_id, event.status))

    def of(self, user: str) -> list[str]:
        """What was said of one person."""
        return [status for who, status in self.said if who == user]

    async def last(self, user: str) -> str:
        """What was said last of one person."""
        return (self.of(user) or [""])[-1]


@asynccontextmanager
async def listening(nats: NatsServer) -> AsyncIterator[Heard]:
    """Hears all that presence says."""
    heard = Heard()
    async with nats.client(ADMIN) as client:

        async def hear(message: Any) -> None:
            heard.hear(message.subject, message.data)

        await client.subscribe("sampan.presence.>", cb=hear)
        await flushed(client)
        yield heard


@dataclass(frozen=True)
class Replica:
    """One process of presence, as the edge and as messaging see it."""

    public: PresenceServiceStub
    internal: PresenceInternalServiceStub

    async def renew(
        self, *devices: tuple[str, str], process: str = "p", seconds: int = 60
    ) -> list[internal.Limited]:
        """Devices are there: person and name of each."""
        leases = [internal.Lease(user_id=user, device_id=name) for user, name in devices]
        request = internal.RenewLeasesRequest(process=process, leases=leases, seconds=seconds)
        return list((await self.internal.RenewLeases(request)).limited)

    async def end(self, *devices: tuple[str, str], process: str = "p") -> None:
        """Devices are gone."""
        leases = [internal.Lease(user_id=user, device_id=name) for user, name in devices]
        await self.internal.EndLeases(internal.EndLeasesRequest(process=process, leases=leases))


@dataclass(frozen=True)
class Somebody:
    """A person with a token."""

    replica: Replica
    id: str
    token: str

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What says who they are."""
        return [("authorization", f"Bearer {self.token}")]

    def at(self, replica: Replica) -> Somebody:
        """The same, at another process."""
        return Somebody(replica, self.id, self.token)

    async def sees(self, *others: str) -> list[pb.Presence]:
        """How others look to them."""
        request = pb.ListPresenceRequest(user_ids=others)
        return list((await self.replica.public.ListPresence(request, metadata=self.metadata)).presences)

    async def status(self, other: str) -> str:
        """How one looks to them."""
        return (await self.sees(other))[0].status

    async def sets(self, status: str, device: str = "", request_id: str = "") -> pb.Presence:
        """Says how they are."""
        request = pb.SetPresenceRequest(status=status, device_id=device, request_id=request_id)
        return await self.replica.public.SetPresence(request, metadata=self.metadata)  # type: ignore[no-any-return]

    async def prefers(self, **changes: bool) -> pb.Preferences:
        """Changes what they show."""
        request = pb.UpdatePreferencesRequest(**changes)
        return await self.replica.public.UpdatePreferences(request, metadata=self.metadata)  # type: ignore[no-any-return]


@dataclass
class Place:
    """All that presence stands on, and its processes."""

    pki: Pki
    database: Clone
    redis: OwnRedis
    nats: NatsServer
    minter: Minter
    contacts: ContactsServicer
    messaging: str
    replicas: list[Replica] = field(default_factory=list)

    def somebody(self, replica: int = 0) -> Somebody:
        """Somebody new."""
        user = str(uuid.uuid4())
        return Somebody(self.replicas[replica], user, self.minter.token(user))

    def friends(self, count: int = 2) -> list[Somebody]:
        """People who all share a dialog."""
        people = [self.somebody() for _ in range(count)]
        self.contacts.pairs |= {frozenset((one.id, two.id)) for one in people for two in people if one != two}
        return people

    @asynccontextmanager
    async def replica(self, internal_as: str = "messaging", **settings: Any) -> AsyncIterator[Replica]:
        """One more process; `internal_as` says who tells it of devices."""
        mesh = MeshSettings(
            rate_limit_scale=10_000,
            peers={"identity": ["127.0.0.1:1"], "messaging": [one for one in [self.messaging] if one]},
        )
        urls = {"redis_url": self.redis.url("presence"), "nats_url": self.nats.url("presence")}
        more = {**urls, **QUICK, **settings}
        app = await presence_app(self.database, self.pki, mesh, self.minter, **more)
        async with (
            serving(app, mesh) as address,
            channel_as("edge", address, "presence", self.pki) as as_edge,
            channel_as(internal_as, address, "presence", self.pki) as as_messaging,
        ):
            yield Replica(PresenceServiceStub(as_edge), PresenceInternalServiceStub(as_messaging))


@asynccontextmanager
async def place(
    pki: Pki, database: Clone, redis: OwnRedis, nats: NatsServer, replicas: int = 2, **settings: Any
) -> AsyncIterator[Place]:
    """Presence in some processes, with a messaging that knows who shares a dialog."""
    contacts = ContactsServicer()
    messaging = App(
        name="messaging",
        settings=ServiceSettings(**settings_of("messaging", pki)),
        servicers={"sampan.messaging.v1.MessagingInternalService": contacts},
        keys=Minter(),
    )
    async with serving(messaging) as address, AsyncExitStack() as stack:
        made = Place(pki, database, redis, nats, Minter(), contacts, address)
        for _ in range(replicas):
            made.replicas.append(await stack.enter_async_context(made.replica(**settings)))
        yield made


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[tuple[OwnRedis, NatsServer]]:
    """A Redis and a NATS of a test's own."""
    from tests.support.bus import nats_server
    from tests.support.redis import own_redis

    for name in ("redis", "nats"):
        (folder / name).mkdir()
    async with own_redis(folder / "redis", "presence") as redis, nats_server(folder / "nats") as nats:
        yield redis, nats
