"""Composition root of workspace."""

from __future__ import annotations

from datetime import timedelta

from services.mesh.app import App
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.foundation import Foundation
from services.mesh.idempotency import Idempotency
from services.mesh.identity_client import IdentityClient
from services.mesh.settings import MeshSettings
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
    base = Foundation("workspace", mesh, settings)
    keys = base.idempotency()
    page_key = base.vault.derive("page-tokens")
    to_identity = Peer(mesh.peers["identity"], "identity", settings)
    identity = IdentityClient(to_identity, clock)
    # In another process, which need not be there.
    to_messaging = Peer(mesh.peers.get("messaging", ()), "messaging", settings)
    teller = _teller(base, to_messaging, settings)
    sweeper = Sweeper(
        base.database,
        teller,
        base.log,
        interval=settings.sweep_seconds,
        invites_kept=timedelta(days=settings.invite_keep_days),
    )
    events = Events(base.outbox(), clock)
    service = WorkspaceService(
        base.database, keys, events, teller, sweeper.wake, page_key, max_workspaces=settings.max_workspaces
    )
    invites = _invites(base, keys, teller, page_key, settings)
    channels = Channels(base.database, keys, teller, page_key, max_channels=settings.max_channels)
    return App(
        name="workspace",
        settings=settings,
        servicers={
            "sampan.workspace.v1.WorkspaceService": WorkspaceServicer(service, invites, channels, keys)
        },
        keys=identity,
        revocations=identity.revocations,
        background=(sweeper.run, *base.background),
        closers=(to_messaging.close, to_identity.close, base.close),
        observed=(*base.observed, to_messaging.observe, to_identity.observe),
    )


def _teller(base: Foundation, to_messaging: Peer, settings: WorkspaceSettings) -> Teller:
    return Teller(
        base.database,
        MessagingClient(to_messaging, settings.tell_seconds),
        base.log,
        lease=settings.lease_seconds,
        patience=settings.patience_seconds,
    )


def _invites(
    base: Foundation, keys: Idempotency, teller: Teller, page_key: bytes, settings: WorkspaceSettings
) -> Invites:
    return Invites(
        base.database,
        keys,
        Codes(base.vault),
        teller,
        page_key,
        max_members=settings.max_members,
        max_invites=settings.max_invites,
        max_workspaces=settings.max_workspaces,
    )
