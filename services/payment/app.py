"""Composition root of payment."""

from __future__ import annotations

from datetime import timedelta

from services.mesh.app import App
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.fast_database import FastDatabase
from services.mesh.foundation import Foundation
from services.mesh.group_commit import GroupCommit, Limits
from services.mesh.idempotency import Idempotency
from services.mesh.identity_client import IdentityClient
from services.mesh.paging import PageTokens
from services.mesh.personal import PersonKeys
from services.mesh.settings import MeshSettings
from services.payment.app_topups import TopUps
from services.payment.bills import BillService
from services.payment.domain import Draft, Posted
from services.payment.events import Events
from services.payment.events_bills import BillEvents
from services.payment.holds import HoldService, HoldSweeper
from services.payment.keys import RequestKeys
from services.payment.ledger import Ledger, LedgerStore
from services.payment.notes import Notes
from services.payment.reading import ReadingService
from services.payment.refunds import RefundService
from services.payment.sends import SendService, TransferService
from services.payment.service import WalletService
from services.payment.servicer import PaymentServicer
from services.payment.servicer_bills import BillMethods, BillTotalsMethods
from services.payment.servicer_holds import HoldMethods
from services.payment.servicer_internal import PaymentInternalServicer
from services.payment.servicer_parts import Parts
from services.payment.servicer_reading import ReadingMethods
from services.payment.servicer_wallets import WalletMethods
from services.payment.settings import PaymentSettings

# Seconds that transfers which wait get to be posted, when the service stops.
_GRACE = 5.0


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
    person_keys = PersonKeys(base.vault)
    wallets = WalletService(base.database, idempotency, person_keys, settings.daily_limits)
    fast = FastDatabase(
        settings.database_url.get_secret_value(),
        pool=settings.posting_pool,
        timeout=settings.database_timeout,
        name="payment",
    )
    outbox = base.outbox()
    store = LedgerStore(fast, settings.daily_limits, outbox.wake)
    posting: GroupCommit[Draft, Posted] = GroupCommit(
        store,
        limits=Limits(
            batch=settings.posting_batch, queue=settings.posting_queue, parallel=settings.posting_pool
        ),
        log=base.log,
    )
    ledger = Ledger(store, posting)
    keys = RequestKeys(base.vault.derive("requests"))
    notes = Notes(base.database, person_keys)
    sends = SendService(ledger, keys, notes, Events(clock), settings.fees)
    transfers = TransferService(ledger, keys)
    bills = BillService(
        base.database,
        idempotency,
        person_keys,
        BillEvents(outbox),
        PageTokens(base.vault.derive("page-tokens"), "bills"),
        clock,
        currency=settings.bills_currency,
        cap=settings.bills_cap,
    )
    page_key = base.vault.derive("page-tokens")
    reading = ReadingService(base.database, notes, page_key, statement_lines=settings.statement_lines)
    life = timedelta(seconds=settings.hold_seconds)
    holds = HoldService(base.database, idempotency, wallets, ledger, page_key, life=life)
    refunds = RefundService(base.database, idempotency, ledger)
    top_ups = TopUps(base, mesh, settings, idempotency, clock)
    sweeper = HoldSweeper(holds, base.log, interval=settings.hold_sweep_seconds)

    async def close() -> None:
        await posting.close(_GRACE)
        await fast.close()
        await to_identity.close()
        await base.close()

    return App(
        name="payment",
        settings=settings,
        servicers={
            "sampan.payment.v1.PaymentService": PaymentServicer(
                top_ups.methods,
                top_ups.transactions(ReadingMethods(reading)),
                WalletMethods(wallets, sends, idempotency),
                ReadingMethods(reading),
                HoldMethods(holds, refunds, reading, idempotency),
                BillMethods(bills, idempotency),
            ),
            "sampan.payment.v1.PaymentInternalService": Parts(
                PaymentInternalServicer(wallets, transfers, idempotency, window=settings.stream_window),
                BillTotalsMethods(bills),
                top_ups.review,
            ),
        },
        keys=identity,
        revocations=identity.revocations,
        background=(*base.background, sweeper.run, top_ups.run),
        observed=base.observed,
        closers=(close,),
    )
