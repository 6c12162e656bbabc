"""Composition root of analytics."""

from __future__ import annotations

from services.analytics import events
from services.analytics.forgetting import Forgetting
from services.analytics.payment_client import PaymentBills
from services.analytics.rebuild import Rebuilder
from services.analytics.service import StatisticsService
from services.analytics.servicer import AnalyticsServicer
from services.analytics.settings import AnalyticsSettings
from services.mesh.app import App
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.database import Database
from services.mesh.foundation import Foundation
from services.mesh.identity_client import IdentityClient
from services.mesh.settings import MeshSettings


async def build(
    mesh: MeshSettings, settings: AnalyticsSettings | None = None, clock: Clock = system_clock
) -> App:
    """Builds the service. Its database, identity and payment are first asked when it serves."""
    settings = settings or AnalyticsSettings()
    base = Foundation("analytics", mesh, settings)
    service = StatisticsService(base.database)
    base.consume(events.CONTEXT, events.BillEvents(service).handlers, together=True)
    # In other processes, which need not be there.
    to_payment = Peer(mesh.peers.get("payment", ()), "payment", settings)
    to_identity = Peer(mesh.peers["identity"], "identity", settings)
    identity = IdentityClient(to_identity, clock)
    patient = Database(
        settings.database_url.get_secret_value(),
        pool=1,
        timeout=settings.rebuild_timeout,
        name="analytics",
    )
    rebuilder = Rebuilder(
        patient,
        PaymentBills(to_payment),
        base.log,
        pause=settings.rebuild_poll_seconds,
        page=settings.rebuild_page,
    )
    forgetting = Forgetting(base.database, base.log, days=settings.fact_days, pause=settings.forget_seconds)
    return App(
        name="analytics",
        settings=settings,
        servicers={"sampan.analytics.v1.AnalyticsService": AnalyticsServicer(service)},
        keys=identity,
        revocations=identity.revocations,
        background=(*base.background, rebuilder.run, forgetting.run),
        closers=(to_payment.close, to_identity.close, patient.close, base.close),
        observed=(*base.observed, to_payment.observe, to_identity.observe),
    )
