"""What follows when a bank says something of a payment: once, however often it does, in any order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from services.mesh import faults
from services.mesh.clock import Clock, moment
from services.mesh.database import Database
from services.mesh.errors import Unavailable
from services.mesh.ids import uuid7
from services.payment import repository_crediting as ledger
from services.payment import repository_topups as repository
from services.payment.domain_topups import (
    PAID,
    Answer,
    By,
    Paid,
    Status,
    TopUp,
    Why,
    after_silence,
    may_take,
    why_held,
)
from services.payment.errors import (
    CallbackConflict,
    CallbackMalformed,
    PaymentInProgress,
    QrExpired,
    TopUpNotFound,
    TopUpSettled,
)
from services.payment.providers.provider import Event, Notice
from services.payment.qr import reference
from services.payment.qr.rails import RAILS

_REFUSALS = {Answer.EXPIRED: QrExpired, Answer.SETTLED: TopUpSettled, Answer.BUSY: PaymentInProgress}


class Outcome(StrEnum):
    """What became of what a bank said."""

    ACCEPTED = "accepted"
    CREDITED = "credited"
    REVIEW = "review"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Received:
    """What a bank is answered. `before`: it had said so already."""

    outcome: Outcome
    top_up_id: UUID | None
    before: bool = False


class Receiver:
    """Hears of payments. One transaction holds all that follows, so that a crash leaves all of it or nothing.

    `inquiry` is after how many seconds a bank is asked about a payment that it has begun; `grace` and
    `patience` as in `after_silence`.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        inquiry: float,
        grace: float,
        patience: float,
    ) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._inquiry = inquiry
        self._grace = grace
        self._patience = patience

    async def receive(self, provider: str, notice: Notice, by: By = By.PROVIDER) -> Received:
        """Does what follows. A bank that wants to take money may be refused, one that has it never.

        Raises TopUpNotFound, QrExpired, TopUpSettled or PaymentInProgress for the former; CallbackConflict
        when it said something else before, CallbackMalformed for a method in another currency.
        """
        rail = RAILS.get(notice.method)
        if rail is None or rail.currency != notice.currency:
            raise CallbackMalformed
        await faults.point("payment.receive.verified")
        async with self._database.transaction("receive") as connection:
            top_up_id = reference.to_id(notice.reference)
            top_up = await repository.one(connection, top_up_id, lock=True) if top_up_id else None
            match notice.event:
                case Event.STARTED:
                    return await self._started(connection, provider, top_up, notice)
                case Event.FAILED:
                    return await self._failed(connection, provider, top_up, notice)
                case Event.COMPLETED:
                    return await self._completed(connection, top_up, _paid(provider, notice), by)

    async def nothing_came(self, top_up_id: UUID) -> Status | None:
        """A bank says that it has no money for an open top-up. Returns what it is now."""
        async with self._database.transaction("expire_top_up") as connection:
            top_up = await repository.one(connection, top_up_id, lock=True)
            if top_up is None or not top_up.payable:
                return top_up.status if top_up else None
            now = moment(self._clock())
            then = after_silence(top_up, now, grace=self._grace, patience=self._patience)
            if then is top_up.status:
                await repository.look_again(connection, top_up.id, self._next_look(top_up, now))
            else:
                # The payment's id stays: should it be done after all, it was allowed.
                await repository.move(connection, top_up, then, By.SWEEPER, self._expiry(top_up))
            return then

    async def _started(
        self, connection: AsyncConnection, provider: str, top_up: TopUp | None, notice: Notice
    ) -> Received:
        if top_up is None or top_up.provider != provider:
            raise TopUpNotFound
        now = moment(self._clock())
        answer = may_take(top_up, notice.payment_id, now)
        if answer is not Answer.YES:
            raise _REFUSALS[answer]
        if top_up.status is not Status.PENDING:
            return Received(Outcome.ACCEPTED, top_up.id, before=True)
        await repository.move(
            connection,
            top_up,
            Status.PROCESSING,
            By.PROVIDER,
            now + timedelta(seconds=self._inquiry),
            payment_id=notice.payment_id,
            processing_since=now,
        )
        return Received(Outcome.ACCEPTED, top_up.id)

    async def _failed(
        self, connection: AsyncConnection, provider: str, top_up: TopUp | None, notice: Notice
    ) -> Received:
        """The QR can be paid again, as long as it could before."""
        if top_up is None or top_up.provider != provider:
            return Received(Outcome.IGNORED, None)
        if top_up.status is not Status.PROCESSING or top_up.payment_id != notice.payment_id:
            return Received(Outcome.IGNORED, top_up.id)
        await repository.move(
            connection, top_up, Status.PENDING, By.PROVIDER, self._expiry(top_up), payment_id=""
        )
        return Received(Outcome.ACCEPTED, top_up.id)

    async def _completed(
        self, connection: AsyncConnection, top_up: TopUp | None, paid: Paid, by: By
    ) -> Received:
        known = await repository.payment(connection, paid.provider, paid.payment_id)
        if known is not None:
            return _again(known, paid)
        wallet = await repository.wallet(connection, top_up.wallet_id) if top_up else None
        why = why_held(top_up, paid, suspended=wallet is not None and wallet.suspended)
        # Somebody else's top-up, or none: the money is in our books all the same.
        ours = top_up if why is not Why.UNKNOWN_REFERENCE else None
        transfer_id = ours.id if ours and why is None else uuid7()
        if not await repository.add_payment(connection, paid, ours.id if ours else None, transfer_id, why):
            known = await repository.payment(connection, paid.provider, paid.payment_id)
            if known is None:
                raise Unavailable
            return _again(known, paid)
        await ledger.take_in(
            connection,
            transfer_id,
            paid,
            wallet_id=ours.wallet_id if ours and why is None else None,
            top_up_id=ours.id if ours else None,
        )
        if ours and ours.status not in PAID:
            await self._settle(connection, ours, paid, why, by)
        if why is not None:
            self._log.warning(
                "payment.held", provider=paid.provider, payment=paid.payment_id, reason=why.value
            )
        outcome = Outcome.REVIEW if why else Outcome.CREDITED
        return Received(outcome, ours.id if ours else None)

    async def _settle(
        self, connection: AsyncConnection, top_up: TopUp, paid: Paid, why: Why | None, by: By
    ) -> None:
        await repository.move(
            connection,
            top_up,
            Status.REVIEW if why else Status.COMPLETED,
            by,
            self._expiry(top_up),
            payment_id=paid.payment_id,
            paid_amount=paid.amount,
            review_reason=why.value if why else "",
        )

    def _expiry(self, top_up: TopUp) -> datetime:
        return top_up.expires_at + timedelta(seconds=self._grace)

    def _next_look(self, top_up: TopUp, now: datetime) -> datetime:
        if top_up.status is Status.PENDING:
            return max(self._expiry(top_up), now)
        return now + timedelta(seconds=self._inquiry)


def _paid(provider: str, notice: Notice) -> Paid:
    return Paid(
        provider,
        notice.payment_id,
        notice.method,
        notice.reference,
        notice.amount,
        notice.currency,
        notice.at,
    )


def _again(known: Row[Any], paid: Paid) -> Received:
    """What was said before, if it is the same. The time may differ: it is when a bank looked at it."""
    said = (known.method, known.reference, known.amount, known.currency)
    if said != (paid.method, paid.reference, paid.amount, paid.currency):
        raise CallbackConflict
    outcome = Outcome.REVIEW if known.held_because else Outcome.CREDITED
    return Received(outcome, known.top_up_id, before=True)
