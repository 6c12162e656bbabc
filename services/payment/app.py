"""Composition root of payment."""

from __future__ import annotations

from datetime import timedelta

from services.mesh.app import App
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.foundation import Foundation
from services.mesh.group_commit import Limits
from services.mesh.idempotency import Idempotency
from services.mesh.identity_client import IdentityClient
from services.mesh.outbox import Outbox
from services.mesh.personal import PersonKeys
from services.mesh.settings import MeshSettings
from services.payment.app_topups import TopUps
from services.payment.bills import BillService
from services.payment.events import Events
from services.payment.events_bills import BillEvents
from services.payment.hold_steps import HoldSteps
from services.payment.holds import HoldService, HoldSweeper
from services.payment.keys import RequestKeys
from services.payment.ledger import Ledger, LedgerStore
from services.payment.notes import Notes
from services.payment.reading import ReadingService
from services.payment.refunds import RefundService
from services.payment.sends import SendService, TransferService
from services.payment.service import WalletService
from services.payment.service_holds import ServiceHolds
from services.payment.servicer import PaymentServicer
from services.payment.servicer_bills import BillMethods, BillTotalsMethods
from services.payment.servicer_holds import HoldMethods
from services.payment.servicer_internal import PaymentInternalServicer
from services.payment.servicer_internal_holds import ServiceHoldMethods
from services.payment.servicer_parts import Parts
from services.payment.servicer_reading import ReadingMethods
from services.payment.servicer_wallets import WalletMethods
from services.payment.settings import PaymentSettings

# Seconds between batches where the loop has no time left: half of what a payment costs the database is the
# start of its batch's statements.
_SLOW = 0.08


async def build(
    mesh: MeshSettings, settings: PaymentSettings | None = None, clock: Clock = system_clock
) -> App:
    """Builds the service. Its database and identity are first asked when it serves."""
    settings = settings or PaymentSettings()
    base = Foundation("payment", mesh, settings)
    to_identity = Peer(mesh.peers["identity"], "identity", settings)
    identity = IdentityClient(to_identity, clock)
    # Not that of the foundation: what was answered is never forgotten.
    idempotency = Idempotency(base.vault.derive("idempotency"))
    outbox = base.outbox()
    parts = _Parts(
        base, settings, clock, idempotency, PersonKeys(base.vault), outbox, _ledger(base, settings, outbox)
    )
    bills = parts.bills()
    holds = parts.holds()
    top_ups = TopUps(base, mesh, settings, idempotency, clock)
    sweeper = HoldSweeper(holds, base.log, interval=settings.hold_sweep_seconds)
    return App(
        name="payment",
        settings=settings,
        servicers={
            "sampan.payment.v1.PaymentService": parts.servicer(holds, bills, top_ups),
            "sampan.payment.v1.PaymentInternalService": parts.internal(bills, top_ups),
        },
        keys=identity,
        revocations=identity.revocations,
        wary=True,
        background=(*base.background, sweeper.run, top_ups.run),
        observed=(*base.observed, to_identity.observe),
        closers=(to_identity.close, base.close),
    )


def _ledger(base: Foundation, settings: PaymentSettings, outbox: Outbox) -> Ledger:
    store = LedgerStore(
        base.fast_database("posting", settings.posting_pool), settings.daily_limits, outbox.wake
    )
    limits = Limits(
        batch=settings.posting_batch,
        enough=max(1, settings.posting_batch // 2),
        queue=settings.posting_queue,
        parallel=settings.posting_pool,
        slow=_SLOW,
    )
    return Ledger(store, base.group_commit(store, limits))


class _Parts:
    """What use cases are made of."""

    def __init__(
        self,
        base: Foundation,
        settings: PaymentSettings,
        clock: Clock,
        idempotency: Idempotency,
        person_keys: PersonKeys,
        outbox: Outbox,
        ledger: Ledger,
    ) -> None:
        self._base = base
        self._settings = settings
        self._clock = clock
        self._idempotency = idempotency
        self._person_keys = person_keys
        self._outbox = outbox
        self._ledger = ledger
        self._page_key = base.vault.derive("page-tokens")
        self._request_keys = RequestKeys(base.vault.derive("requests"))
        self._wallets = WalletService(base.database, idempotency, person_keys, settings.daily_limits)
        self._notes = Notes(base.database, person_keys)
        self._reading = ReadingService(
            base.database, self._notes, self._page_key, statement_lines=settings.statement_lines
        )
        self._hold_steps = HoldSteps(self._wallets, ledger, life=timedelta(seconds=settings.hold_seconds))

    def bills(self) -> BillService:
        """What people owe."""
        return BillService(
            self._base.database,
            self._idempotency,
            self._person_keys,
            BillEvents(self._outbox),
            self._base.page_tokens("bills"),
            self._clock,
            currency=self._settings.bills_currency,
            cap=self._settings.bills_cap,
        )

    def holds(self) -> HoldService:
        """Money that is reserved."""
        return HoldService(
            self._base.database, self._idempotency, self._hold_steps, self._reading, self._page_key
        )

    def servicer(self, holds: HoldService, bills: BillService, top_ups: TopUps) -> PaymentServicer:
        """What people call."""
        settings, idempotency = self._settings, self._idempotency
        read = ReadingMethods(self._reading)
        sends = SendService(self._ledger, self._request_keys, self._notes, Events(self._clock), settings.fees)
        refunds = RefundService(self._base.database, idempotency, self._ledger)
        return PaymentServicer(
            top_ups.methods,
            top_ups.transactions(read),
            WalletMethods(self._wallets, sends, idempotency),
            read,
            HoldMethods(holds, refunds, self._reading, idempotency),
            BillMethods(bills, idempotency),
        )

    def internal(self, bills: BillService, top_ups: TopUps) -> Parts:
        """What other services and operators call."""
        transfers = TransferService(self._ledger, self._request_keys)
        return Parts(
            PaymentInternalServicer(
                self._wallets, transfers, self._idempotency, window=self._settings.stream_window
            ),
            ServiceHoldMethods(
                ServiceHolds(self._base.database, self._idempotency, self._hold_steps), self._idempotency
            ),
            BillTotalsMethods(bills),
            top_ups.review,
        )
