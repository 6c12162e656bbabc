"""Composition root of payment."""

from __future__ import annotations

from services.mesh.app import App
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.foundation import Foundation
from services.mesh.idempotency import Idempotency
from services.mesh.identity_client import IdentityClient
from services.mesh.paging import PageTokens
from services.mesh.personal import PersonKeys
from services.mesh.settings import MeshSettings
from services.payment.bills import BillService
from services.payment.events_bills import BillEvents
from services.payment.service import WalletService
from services.payment.servicer import PaymentServicer
from services.payment.servicer_bills import BillMethods, BillTotalsMethods
from services.payment.servicer_internal import PaymentInternalServicer
from services.payment.servicer_parts import Parts
from services.payment.settings import PaymentSettings


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
    page_tokens = PageTokens(base.vault.derive("page-tokens"), "bills")
    bills = BillService(
        base.database,
        idempotency,
        PersonKeys(base.vault),
        BillEvents(base.outbox()),
        page_tokens,
        clock,
        currency=settings.bills_currency,
        cap=settings.bills_cap,
    )

    return App(
        name="payment",
        settings=settings,
        servicers={
            "sampan.payment.v1.PaymentService": Parts(
                PaymentServicer(wallets, idempotency), BillMethods(bills, idempotency)
            ),
            "sampan.payment.v1.PaymentInternalService": Parts(
                PaymentInternalServicer(wallets, idempotency), BillTotalsMethods(bills)
            ),
        },
        keys=identity,
        revocations=identity.revocations,
        background=base.background,
        observed=base.observed,
        closers=(to_identity.close, base.close),
    )
