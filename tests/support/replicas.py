"""Services that tests play with a few methods: as callers, in the middle, and in several replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from sampan.identity.v1 import identity_internal_service_pb2 as identity_pb
from sampan.notification.v1 import notification_internal_service_pb2 as notification_pb
from sampan.probe.v1 import probe_service_pb2 as probe
from sampan.probe.v1.probe_service_pb2_grpc import ProbeServiceStub
from services.mesh.app import App
from services.mesh.call import Call
from services.mesh.channels import Peer
from services.mesh.errors import SampanError, Unavailable
from services.mesh.settings import ServiceSettings
from services.stack.pki import Pki
from tests.support.mesh import Minter, ProbeServicer, serving, settings_of
from tests.support.waiting import until

NOTIFICATION = "sampan.notification.v1.NotificationInternalService"
IDENTITY = "sampan.identity.v1.IdentityInternalService"


class Recorder(ProbeServicer):
    """The end of the way: keeps the calls that it saw."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.cut_short = 0

    async def Echo(self, request: probe.EchoRequest, call: Call) -> probe.EchoResponse:
        self.calls.append(call)
        try:
            return await super().Echo(request, call)
        except asyncio.CancelledError:
            self.cut_short += 1
            raise

    EchoPublic = EchoAdmin = EchoService = Echo


class Hop(ProbeServicer):
    """The middle of the way: hands calls on, to persons' and to services' methods."""

    def __init__(self, probe_peer: Peer) -> None:
        self._stub = ProbeServiceStub(probe_peer.channel)

    async def Echo(self, request: probe.EchoRequest, _call: Call) -> probe.EchoResponse:
        return await self._stub.EchoService(request)

    async def EchoAdmin(self, request: probe.EchoRequest, _call: Call) -> probe.EchoResponse:
        return await self._stub.Echo(request)

    async def EchoDown(self, request: probe.EchoRequest, _call: Call) -> AsyncIterator[probe.EchoResponse]:
        async for one in self._stub.EchoDown(request):
            yield one


class Replica(ProbeServicer):
    """One of several that play identity, notification and the probe: counts, and fails as often as told."""

    def __init__(self) -> None:
        self.served = 0
        self.failures_left = 0
        self.request_ids: list[str] = []
        self.subjects: list[str] = []

    async def _serve(self, call: Call) -> None:
        self.served += 1
        self.subjects.append(call.subject)
        if self.failures_left:
            self.failures_left -= 1
            raise Unavailable

    async def RotateKeys(self, _: Any, call: Call) -> identity_pb.RotateKeysResponse:
        await self._serve(call)
        return identity_pb.RotateKeysResponse()

    async def Deliver(self, request: Any, call: Call) -> notification_pb.DeliverResponse:
        self.request_ids.append(request.request_id)
        await self._serve(call)
        return notification_pb.DeliverResponse()

    async def ListDeliveries(self, _: Any, call: Call) -> notification_pb.ListDeliveriesResponse:
        await self._serve(call)
        return notification_pb.ListDeliveriesResponse()

    async def EchoOnce(self, request: probe.EchoRequest, call: Call) -> probe.EchoResponse:
        await self._serve(call)
        return probe.EchoResponse(text=request.text)

    async def WatchRevocations(
        self, _: Any, call: Call
    ) -> AsyncIterator[identity_pb.WatchRevocationsResponse]:
        await self._serve(call)
        yield identity_pb.WatchRevocationsResponse(complete=True)

    ReplayDead = ListRevocations = SetRole = SetKycTier = SetStatus = GetContact = ListAccounts = (
        ListDeliveries
    )


def playing(name: str, contract: str, servicer: object, pki: Pki, **settings: Any) -> App:
    """An app that plays a service."""
    made = ServiceSettings(**settings_of(name, pki, **settings))
    return App(name=name, settings=made, servicers={contract: servicer}, keys=Minter())


@asynccontextmanager
async def peer_as(caller: str, service: str, pki: Pki, *addresses: str, **more: Any) -> AsyncIterator[Peer]:
    """A service as another one sees it."""
    peer = Peer(addresses, service, ServiceSettings(**settings_of(caller, pki)), **more)
    try:
        yield peer
    finally:
        await peer.close()


@asynccontextmanager
async def served(
    service: str, contract: str, servicer: object, pki: Pki, to: str, **more: Any
) -> AsyncIterator[Peer]:
    """A service that a test plays, as the service `to` sees it."""
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(playing(service, contract, servicer, pki)))
        yield await stack.enter_async_context(peer_as(to, service, pki, address, **more))


class Load:
    """Callers that go on until told to stop, and what went wrong meanwhile."""

    def __init__(self, call: Any, callers: int = 8) -> None:
        self._call = call
        self._stop = False
        self.failed: list[BaseException] = []
        self.done = 0
        self._tasks = [asyncio.create_task(self._go_on()) for _ in range(callers)]

    async def _go_on(self) -> None:
        while not self._stop:
            try:
                await self._call()
                self.done += 1
            except SampanError as error:
                self.failed.append(error)

    async def end(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)


async def until_served(replica: Replica, more: int = 50) -> None:
    """Returns when a replica has served so many calls more."""
    enough = replica.served + more

    async def served() -> bool:
        return replica.served >= enough

    await until(served, True, within=20)
