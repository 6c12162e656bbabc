"""Composition root of presence."""

from __future__ import annotations

import time

from services.mesh.app import App
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.foundation import Foundation
from services.mesh.identity_client import IdentityClient
from services.mesh.settings import MeshSettings
from services.presence.crier import Crier
from services.presence.events import Voice
from services.presence.leases import Leases
from services.presence.messaging_client import MessagingContacts
from services.presence.preferences import KnownPreferences
from services.presence.service import PreferencesService, PresenceService
from services.presence.servicer import PresenceServicer
from services.presence.servicer_internal import PresenceInternalServicer
from services.presence.settings import PresenceSettings


async def build(
    mesh: MeshSettings, settings: PresenceSettings | None = None, clock: Clock = system_clock
) -> App:
    """Builds the service. It asks nobody before it serves but identity, for the sessions that have ended."""
    settings = settings or PresenceSettings()
    base = Foundation("presence", mesh, settings)
    idempotency = base.idempotency()
    leases = Leases(settings, time.monotonic, base.log)
    known = KnownPreferences(base.database, settings, time.monotonic, base.log)
    voice = Voice(base.bus(settings.nats_url))
    crier = Crier(leases, known, voice, settings, base.log)
    # Messaging may be away, or not there at all: then nobody is shown to anybody.
    to_messaging = Peer(mesh.peers.get("messaging", ()), "messaging", settings)
    contacts = MessagingContacts(to_messaging, settings.contacts_timeout)
    service = PresenceService(leases, known, contacts, crier.wake)
    preferences = PreferencesService(
        base.database, idempotency, known, leases, voice, settings.preferences_fresh_seconds
    )
    to_identity = Peer(mesh.peers["identity"], "identity", settings)
    identity = IdentityClient(to_identity, clock)

    return App(
        name="presence",
        settings=settings,
        servicers={
            "sampan.presence.v1.PresenceService": PresenceServicer(service, preferences, idempotency),
            "sampan.presence.v1.PresenceInternalService": PresenceInternalServicer(service),
        },
        keys=identity,
        revocations=identity.revocations,
        background=(known.follow, crier.run, *base.background),
        closers=(to_messaging.close, to_identity.close, leases.close, base.close),
        observed=(*base.observed, to_messaging.observe, to_identity.observe),
    )
