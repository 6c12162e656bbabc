"""Composition root of notification."""

from __future__ import annotations

from services.mesh.app import App
from services.mesh.auth import NoKeys
from services.mesh.channels import Peer
from services.mesh.foundation import Foundation
from services.mesh.settings import MeshSettings
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
    base = Foundation("notification", mesh, settings)
    letters = Letters(base.vault)
    idempotency = base.idempotency()
    providers = _providers(settings)
    for channel in Channel:
        if mesh.environment == "production" and channel not in providers:
            base.log.warning("provider.missing", channel=channel.value, effect="nothing is sent")
    worker = Worker(base.database, letters, providers, settings, base.log)
    service = NotificationService(
        base.database,
        letters,
        idempotency,
        by_provider=providers.keys(),
        max_attempts=settings.max_attempts,
        wake=worker.wake,
    )
    to_identity = Peer(mesh.peers.get("identity", ()), "identity", settings)
    base.consume(events.CONTEXT, events.Events(service, IdentityContacts(to_identity)).handlers)
    # With the outbox alone there is nothing to send, so nothing looks for it.
    own = (worker.sweep, worker.run) if providers else (worker.sweep,)
    contract = "sampan.notification.v1.NotificationInternalService"
    return App(
        name="notification",
        settings=settings,
        servicers={contract: NotificationInternalServicer(service, idempotency)},
        keys=NoKeys(),
        background=(*base.background, *own),
        closers=(to_identity.close, *(one.close for one in providers.values()), base.close),
        observed=(*base.observed, to_identity.observe),
    )


def _providers(settings: NotificationSettings) -> dict[Channel, Provider]:
    found: dict[Channel, Provider] = {}
    if settings.sms_provider == "http_sms":
        found[Channel.SMS] = HttpSmsProvider(settings)
    if settings.email_provider == "smtp":
        found[Channel.EMAIL] = SmtpProvider(settings)
    return found
