"""Composition root of payment."""

from __future__ import annotations

from services.mesh.app import App
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.foundation import Foundation
from services.mesh.idempotency import Idempotency
from services.mesh.identity_client import IdentityClient
from services.mesh.personal import PersonKeys
from services.mesh.settings import MeshSettings
from services.payment.providers.journal import Journal
from services.payment.providers.provider import Provider
from services.payment.providers.sandbox import SandboxProvider
from services.payment.receiving import Receiver
from services.payment.service import WalletService
from services.payment.servicer import PaymentServicer
from services.payment.servicer_internal import PaymentInternalServicer
from services.payment.servicer_parts import Parts
from services.payment.servicer_topups import TopUpMethods
from services.payment.settings import PaymentSettings
from services.payment.sweeping import Sweeper
from services.payment.topups import TopUpService


async def build(
    mesh: MeshSettings, settings: PaymentSettings | None = None, clock: Clock = system_clock
) -> App:
    """Builds the service. Its database and identity are first asked when it serves."""
    settings = settings or PaymentSettings()
    base = Foundation("payment", mesh, settings)
    # Not that of the foundation: what was answered is never forgotten.
    idempotency = Idempotency(base.vault.derive("idempotency"))
    to_identity = Peer(mesh.peers["identity"], "identity", settings)
    identity = IdentityClient(to_identity, clock)
    wallets = WalletService(base.database, idempotency, PersonKeys(base.vault), settings.daily_limits)
    base.outbox()
    providers = top_up_providers(mesh, settings, clock)
    if not providers:
        base.log.warning("provider.missing", effect="nobody can top up")
    receiver = Receiver(
        base.database,
        clock,
        base.log,
        inquiry=settings.inquiry_seconds,
        grace=settings.expiry_grace_seconds,
        patience=settings.patience_seconds,
    )
    top_ups = TopUpService(
        base.database,
        idempotency,
        providers,
        base.vault.derive("page-tokens"),
        clock,
        most=settings.top_up_most,
        seconds=settings.top_up_seconds,
        grace=settings.expiry_grace_seconds,
        max_open=settings.top_up_open,
    )
    sweeper = Sweeper(
        base.database,
        receiver,
        providers,
        clock,
        base.log,
        interval=settings.sweep_seconds,
        lease=settings.sweep_lease_seconds,
    )

    return App(
        name="payment",
        settings=settings,
        servicers={
            "sampan.payment.v1.PaymentService": Parts(
                PaymentServicer(wallets, idempotency),
                TopUpMethods(top_ups, receiver, providers, idempotency),
            ),
            "sampan.payment.v1.PaymentInternalService": PaymentInternalServicer(wallets, idempotency),
        },
        keys=identity,
        revocations=identity.revocations,
        background=(*base.background, sweeper.run),
        observed=base.observed,
        closers=(to_identity.close, base.close),
    )


def top_up_providers(mesh: MeshSettings, settings: PaymentSettings, clock: Clock) -> dict[str, Provider]:
    """Who takes money for us, by name. The sandbox has no place in production: it makes money of nothing."""
    secret = settings.sandbox_secret.get_secret_value()
    if mesh.environment == "production" or not secret or settings.sandbox_journal is None:
        return {}
    journal = Journal(settings.sandbox_journal)
    sandbox = SandboxProvider(bytes.fromhex(secret), journal, clock, tolerance=settings.callback_tolerance)
    return {sandbox.name: sandbox}
