"""Composition root of notification."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable

from services.mesh import logs
from services.mesh.app import App
from services.mesh.auth import NoKeys
from services.mesh.bus import Bus
from services.mesh.channels import Peer
from services.mesh.consumer import Consumer
from services.mesh.database import Database
from services.mesh.metrics import Observe
from services.mesh.settings import MeshSettings
from services.mesh.vault import Vault
from services.notification import events
from services.notification.domain import Channel
from services.notification.identity_client import IdentityContacts
from services.notification.letters import Letters
from services.notification.providers import HttpSmsProvider, Provider, SmtpProvider
from services.notification.service import NotificationService
from services.notification.servicer import NotificationInternalServicer
from services.notification.settings import NotificationSettings
from services.notification.worker import Worker


async def build(mesh: MeshSettings, settings: NotificationSettings | None = None) -> App:
    """Builds the service. Its database is first asked when something is to be sent."""
    settings = settings or NotificationSettings()
    log = logs.logger("notification")
    database = Database(
        settings.database_url.get_secret_value(),
        pool=settings.database_pool,
        timeout=settings.database_timeout,
        name="notification",
    )
    letters = Letters(Vault(base64.b64decode(settings.master_key.get_secret_value())))
    providers = _providers(settings)
    for channel in Channel:
        if mesh.environment == "production" and channel not in providers:
            log.warning("provider.missing", channel=channel.value, effect="nothing is sent")
    worker = Worker(database, letters, providers, settings, log)
    service = NotificationService(
        database,
        letters,
        by_provider=providers.keys(),
        max_attempts=settings.max_attempts,
        wake=worker.wake,
    )

    to_identity = Peer(mesh.peers.get("identity", ()), "identity", settings)
    handlers = events.Events(service, IdentityContacts(to_identity)).handlers
    # With the outbox alone there is nothing to send, so nothing asks the database.
    background: list[Callable[[], Awaitable[None]]] = (
        [worker.run, worker.sweep] if providers else [worker.sweep]
    )
    observed: list[Observe] = [database.observe, to_identity.observe]
    bus = Bus(settings.nats_url.get_secret_value(), "notification", log) if settings.nats_url else None
    if bus:
        consumer = Consumer("notification", events.CONTEXT, handlers, bus, database, mesh, log)
        background += [bus.run, consumer.run, consumer.replay, consumer.purge]
        observed += [bus.observe, consumer.observe]

    async def close() -> None:
        if bus:
            await bus.close()
        await to_identity.close()
        for provider in providers.values():
            await provider.close()
        await database.close()

    return App(
        name="notification",
        settings=settings,
        servicers={
            "sampan.notification.v1.NotificationInternalService": NotificationInternalServicer(service)
        },
        keys=NoKeys(),
        background=background,
        closers=(close,),
        observed=observed,
    )


def _providers(settings: NotificationSettings) -> dict[Channel, Provider]:
    found: dict[Channel, Provider] = {}
    if settings.sms_provider == "http_sms":
        found[Channel.SMS] = HttpSmsProvider(settings)
    if settings.email_provider == "smtp":
        found[Channel.EMAIL] = SmtpProvider(settings)
    return found
