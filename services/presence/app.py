"""Composition root of presence."""

from __future__ import annotations

import base64
import time

from services.mesh import logs
from services.mesh.app import App
from services.mesh.bus import Bus
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Sweeper
from services.mesh.identity_client import IdentityClient
from services.mesh.settings import MeshSettings
from services.mesh.vault import Vault
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
    log = logs.logger("presence")
    database = Database(
        settings.database_url.get_secret_value(),
        pool=settings.database_pool,
        timeout=settings.database_timeout,
        name="presence",
    )
    vault = Vault(base64.b64decode(settings.master_key.get_secret_value()))
    idempotency = Idempotency(vault.derive("idempotency"))
    leases = Leases(settings, time.monotonic, log)
    known = KnownPreferences(database, settings, time.monotonic, log)
    bus = Bus(settings.nats_url.get_secret_value(), "presence", log)
    voice = Voice(bus)
    crier = Crier(leases, known, voice, settings, log)
    # Messaging may be away, or not there at all: then nobody is shown to anybody.
    to_messaging = Peer(mesh.peers.get("messaging", ()), "messaging", settings)
    contacts = MessagingContacts(to_messaging, settings.contacts_timeout)
    service = PresenceService(leases, known, contacts, crier.wake)
    preferences = PreferencesService(
        database, idempotency, known, leases, voice, settings.preferences_fresh_seconds
    )
    sweeper = Sweeper(database, settings.idempotency_keep_hours, log)
    to_identity = Peer(mesh.peers["identity"], "identity", settings)
    identity = IdentityClient(to_identity, clock)

    async def close() -> None:
        await bus.close()
        await to_messaging.close()
        await to_identity.close()
        await leases.close()
        await database.close()

    return App(
        name="presence",
        settings=settings,
        servicers={
            "sampan.presence.v1.PresenceService": PresenceServicer(service, preferences, idempotency),
            "sampan.presence.v1.PresenceInternalService": PresenceInternalServicer(service),
        },
        keys=identity,
        revocations=identity.revocations,
        background=(bus.run, known.follow, crier.run, sweeper.run),
        closers=(close,),
    )
