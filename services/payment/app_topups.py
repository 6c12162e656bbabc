"""Builds the parts of payment that take money in: providers, top-ups, and who finishes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.mesh.clock import Clock
from services.mesh.foundation import Foundation
from services.mesh.idempotency import Idempotency
from services.mesh.settings import MeshSettings
from services.payment.providers.journal import Journal
from services.payment.providers.provider import Provider
from services.payment.providers.sandbox import SandboxProvider
from services.payment.receiving import Receiver
from services.payment.reviewing import ReviewService
from services.payment.servicer_reading import ReadingMethods
from services.payment.servicer_reviewing import ReviewMethods
from services.payment.servicer_topups import TopUpMethods, TransactionMethods
from services.payment.settings import PaymentSettings
from services.payment.sweeping import Sweeper
from services.payment.topups import TopUpService


class TopUps:
    """Top-ups for the app: `methods` for people, `review` for operators, `run` in the background."""

    methods: TopUpMethods
    review: ReviewMethods
    run: Callable[[], Awaitable[None]]

    def __init__(
        self,
        base: Foundation,
        mesh: MeshSettings,
        settings: PaymentSettings,
        idempotency: Idempotency,
        clock: Clock,
    ) -> None:
        providers = _providers(mesh, settings, clock)
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
        service = TopUpService(
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
            idle=settings.sweep_idle_seconds,
            lease=settings.sweep_lease_seconds,
            patience=settings.ask_seconds,
        )
        self._service = service
        self.methods = TopUpMethods(service, receiver, providers, idempotency)
        review = ReviewService(base.database, idempotency)
        self.review = ReviewMethods(review, idempotency)
        base.observed.append(review.observe)
        self.run = sweeper.run

    def transactions(self, reading: ReadingMethods) -> TransactionMethods:
        """Transactions, those that are still on their way in among them."""
        return TransactionMethods(reading, self._service)


def _providers(mesh: MeshSettings, settings: PaymentSettings, clock: Clock) -> dict[str, Provider]:
    """Who takes money for us, by name. The sandbox has no place in production: it makes money of nothing."""
    secret = settings.sandbox_secret.get_secret_value()
    if mesh.environment == "production" or not secret or settings.sandbox_journal is None:
        return {}
    journal = Journal(settings.sandbox_journal)
    sandbox = SandboxProvider(bytes.fromhex(secret), journal, clock, tolerance=settings.callback_tolerance)
    return {sandbox.name: sandbox}
