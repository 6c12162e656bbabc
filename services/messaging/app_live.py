"""Builds live delivery; a part of the composition root of messaging."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sampan.presence.v1.presence_internal_service_pb2_grpc import PresenceInternalServiceStub
from services.mesh.chain import Chain
from services.mesh.channels import Peer
from services.mesh.clock import Clock
from services.mesh.foundation import Foundation
from services.mesh.metrics import Observe
from services.mesh.revocation import Revocations
from services.mesh.settings import MeshSettings
from services.mesh.tls import Certificate
from services.messaging.acks import Keep
from services.messaging.bus_events import SUBJECTS
from services.messaging.live.acks import Acks
from services.messaging.live.heads import Watch
from services.messaging.live.history import History
from services.messaging.live.hub import Hub
from services.messaging.live.inbound import Desk, Writer
from services.messaging.live.leases import CHANGED, PREFERENCES, Comings, Leases, Limits
from services.messaging.live.link import Link
from services.messaging.live.opening import Opening
from services.messaging.live.resume import Tokens
from services.messaging.live.roster import Roster
from services.messaging.relaying import LogSource, noting
from services.messaging.repository_live import LiveRepository
from services.messaging.servicer_live import LiveMethods
from services.messaging.settings import MessagingSettings
from services.messaging.websocket import WebSockets

# The relay of messages publishes at most so often, in seconds. It shares its event loop with those who send:
# in a flood it rests as many times as long as it worked, falls behind, and catches up when that is over.
_GATHER = 0.05
_EASE = 19.0
# Events that it publishes at once: two hundred held up all others for 20 ms.
_AT_ONCE = 32


class Live:
    """The parts of live delivery. `hub` takes what was written; `opening` opens streams for every door."""

    def __init__(
        self, base: Foundation, mesh: MeshSettings, settings: MessagingSettings, clock: Clock
    ) -> None:
        self._mesh = mesh
        self._settings = settings
        self._log = base.log
        self._repository = LiveRepository(base.fast_database("live", settings.live_pool))
        bus = base.bus(settings.nats_url) if settings.nats_url is not None else None
        self._has_bus = bus is not None
        self._link = Link(bus)
        tokens = Tokens(base.vault.derive("resume"), days=settings.resume_days)
        self._peer = Peer(mesh.peers.get("presence", ()), "presence", settings)
        stub = PresenceInternalServiceStub(self._peer.channel)
        limits = Limits()
        process = self._link.process.hex()
        self._leases = Leases(stub, process, limits, base.log, seconds=settings.presence_lease_seconds)
        self.roster = Roster(
            clock, self._leases, heartbeat=settings.heartbeat_seconds, leeway=mesh.token_leeway
        )
        self.hub = Hub(
            tokens=tokens,
            history=History(self._repository.events),
            others=self._link,
            roster=self.roster,
            queue_bytes=settings.stream_queue_bytes,
            user_streams=settings.user_streams,
        )
        self.opening = Opening(self.hub, self._repository)
        self.hub.entrance = self.opening
        self._acks = Acks(self._repository, tokens, days=settings.resume_days)
        self._watch = Watch(self.hub, self._link, self.opening, self._repository, base.log)
        self._told = LogSource()
        relay = base.relay(self._told, SUBJECTS, most=_AT_ONCE, gather=_GATHER, ease=_EASE)
        if relay is not None:
            self.hub.noted = noting(self._told, relay.wake)
            base.observed.append(self._told.observe)
        self._comings = Comings(self.hub, self._repository, limits, base.log)
        self._link.connect(self.hub)
        if bus is not None:
            bus.hear(CHANGED, self._comings.hear)
            bus.hear(PREFERENCES, limits.hear)
        self.desk: Desk | None = None
        self._websockets: WebSockets | None = None

    @property
    def keep(self) -> Keep:
        """Keeps where a device is."""
        return self._acks.keep

    def methods(self, writer: Writer) -> LiveMethods:
        """The RPCs; `writer` does what frames of clients stand for."""
        self.desk = Desk(
            writer,
            self._acks,
            lambda error: self._log.error("frame.crashed", exc_info=error),
            most=self._settings.frames_in_flight,
            frames_per_second=int(self._settings.frames_per_second * self._mesh.rate_limit_scale),
        )
        methods = LiveMethods(self.opening, self.desk, hello_seconds=self._settings.hello_seconds)
        settings = self._settings
        if settings.websocket_listen:
            certificate = Certificate(settings.tls_cert, settings.tls_key, settings.tls_ca)
            self._websockets = WebSockets(
                settings.websocket_listen, certificate, methods, ping=settings.websocket_ping_seconds
            )
        return methods

    def attach(self, chain: Chain, revocations: Revocations) -> None:
        """Learns what the process decides: who may go on, and who has called too often."""
        revocations.listeners.append(self.roster.revoked)
        self.opening.is_revoked = revocations.is_revoked
        if self.desk is not None:
            self.desk.count = chain.count
        if self._websockets is not None:
            self._websockets.attach(chain)

    def drain(self) -> None:
        """Takes no more streams, and sends those that are here elsewhere."""
        self.opening.draining = True
        if self._websockets is not None:
            self._websockets.drain()
        self.roster.drain()

    @property
    def background(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """What runs as long as the server does."""
        found = [self.hub.run, self._watch.run, self._acks.run, self._leases.run, self._comings.run]
        if self._has_bus:
            found.append(self._link.run)
        if self._websockets is not None:
            found.append(self._websockets.run)
        return tuple(found)

    @property
    def observed(self) -> tuple[Observe, ...]:
        """What is asked for figures."""
        return (self._peer.observe,)

    async def close(self) -> None:
        """Closes what it opened."""
        await self._peer.close()
