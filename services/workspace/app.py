"""Composition root of workspace."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from services.mesh import idempotency, logs
from services.mesh.app import App
from services.mesh.bus import Bus
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.database import Database
from services.mesh.idempotency import Idempotency
from services.mesh.identity_client import IdentityClient
from services.mesh.outbox import Keeper, Outbox
from services.mesh.relay import Relay
from services.mesh.settings import MeshSettings
from services.mesh.vault import Vault
from services.workspace.channels import Channels
from services.workspace.events import Events
from services.workspace.invites import Codes, Invites
from services.workspace.messaging_client import MessagingClient
from services.workspace.service import WorkspaceService
from services.workspace.servicer import WorkspaceServicer
from services.workspace.settings import WorkspaceSettings
from services.workspace.telling import Sweeper, Teller


async def build(
    mesh: MeshSettings, settings: WorkspaceSettings | None = None, clock: Clock = system_clock
) -> App:
    """Builds the service. Its database, identity and messaging are first asked when it serves."""
    settings = settings or WorkspaceSettings()
    log = logs.logger("workspace")
    database = Database(
        settings.database_url.get_secret_value(),
        pool=settings.database_pool,
        timeout=settings.database_timeout,
        name="workspace",
    )
    vault = Vault(base64.b64decode(settings.master_key.get_secret_value()))
    keys = Idempotency(vault.derive("idempotency"))
    page_key = vault.derive("page-tokens")
    to_identity = Peer(mesh.peers["identity"], "identity", settings)
    identity = IdentityClient(to_identity, clock)
    # In another process, which need not be there.
    to_messaging = Peer(mesh.peers.get("messaging", ()), "messaging", settings)
    bus = Bus(settings.nats_url.get_secret_value(), "workspace", log) if settings.nats_url else None
    relay = _relay(bus, mesh, settings, log) if bus else None
    events = Events(Outbox(relay.wake if relay else _nobody_to_wake), clock)
    teller = Teller(
        database,
        MessagingClient(to_messaging, settings.tell_seconds),
        log,
        lease=settings.lease_seconds,
        patience=settings.patience_seconds,
    )
    sweeper = Sweeper(
        database,
        teller,
        log,
        interval=settings.sweep_seconds,
        invites_kept=timedelta(days=settings.invite_keep_days),
    )
    service = WorkspaceService(
        database, keys, events, teller, sweeper.wake, page_key, max_workspaces=settings.max_workspaces
    )
    invites = Invites(
        database,
        keys,
        Codes(vault),
        teller,
        page_key,
        max_members=settings.max_members,
        max_invites=settings.max_invites,
        max_workspaces=settings.max_workspaces,
    )
    channels = Channels(database, keys, teller, page_key, max_channels=settings.max_channels)
    forgetting = idempotency.Sweeper(database, settings.idempotency_keep_hours, log)
    keeper = Keeper(database, log, days=mesh.outbox_keep_days)
    background: list[Callable[[], Awaitable[None]]] = [sweeper.run, forgetting.run, keeper.run]
    if bus and relay:
        background += [bus.run, relay.run]

    async def close() -> None:
        await to_messaging.close()
        await to_identity.close()
        if bus:
            await bus.close()
        await database.close()

    return App(
        name="workspace",
        settings=settings,
        servicers={
            "sampan.workspace.v1.WorkspaceService": WorkspaceServicer(service, invites, channels, keys)
        },
        keys=identity,
        revocations=identity.revocations,
        background=background,
        closers=(close,),
    )


def _nobody_to_wake() -> None:
    """Without a bus, events wait in the outbox."""


def _relay(bus: Bus, mesh: MeshSettings, settings: WorkspaceSettings, log: FilteringBoundLogger) -> Relay:
    url = settings.database_url.get_secret_value()
    return Relay(url, "workspace", bus, mesh, log, timeout=settings.database_timeout)
