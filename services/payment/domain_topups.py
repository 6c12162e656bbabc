"""Rules of top-ups: what follows from what a bank says, and when. No I/O, no proto."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Status(StrEnum):
    """Where a top-up is on its way."""

    PENDING = "pending"
    # A customer's bank has asked whether it shall take the money: this does not expire.
    PROCESSING = "processing"
    COMPLETED = "completed"
    REVIEW = "review"
    EXPIRED = "expired"
    # Money that was held for review has gone back.
    RETURNED = "returned"


OPEN = (Status.PENDING, Status.PROCESSING)
# Money has come: what else comes for the same QR was not asked for.
PAID = (Status.COMPLETED, Status.REVIEW, Status.RETURNED)


# What the audit trail puts before a status.
EVENT = "topup_"


class Why(StrEnum):
    """Why money that came is held, and not credited."""

    WRONG_AMOUNT = "WRONG_AMOUNT"
    WRONG_METHOD = "WRONG_METHOD"
    PAID_LATE = "PAID_LATE"
    PAID_TWICE = "PAID_TWICE"
    UNKNOWN_REFERENCE = "UNKNOWN_REFERENCE"
    ACCOUNT_SUSPENDED = "ACCOUNT_SUSPENDED"


class By(StrEnum):
    """Who changed a top-up."""

    CUSTOMER = "customer"
    PROVIDER = "provider"
    SWEEPER = "sweeper"
    OPERATOR = "operator"


class Decision(StrEnum):
    """What an operator does with money that is held for review."""

    CREDIT = "credit"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a top-up's status."""

    status: Status
    at: datetime
    by: By


@dataclass(frozen=True, slots=True)
class TopUp:
    """Money on its way into a wallet. Amounts in minor units.

    `payment_id` is the provider's id of the payment that it may take, or has taken.
    """

    id: UUID
    user_id: UUID
    wallet_id: UUID
    provider: str
    method: str
    amount: int
    currency: str
    status: Status
    # What the payment is known by at the bank.
    reference: str
    qr_payload: str
    expires_at: datetime
    created_at: datetime
    payment_id: str = ""
    processing_since: datetime | None = None
    settled_at: datetime | None = None
    paid_amount: int = 0
    review_reason: str = ""
    history: tuple[Change, ...] = field(default=())

    @property
    def payable(self) -> bool:
        """Whether its QR is worth showing."""
        return self.status in OPEN

    def as_made(self) -> TopUp:
        """As it was when it was made: everything else of it never changes."""
        return replace(
            self,
            status=Status.PENDING,
            payment_id="",
            processing_since=None,
            settled_at=None,
            paid_amount=0,
            review_reason="",
            history=self.history[:1],
        )


@dataclass(frozen=True, slots=True)
class Paid:
    """Money that a bank has taken for us, as it says. `provider` and `payment_id` name it for ever."""

    provider: str
    payment_id: str
    method: str
    reference: str
    amount: int
    currency: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """Money that is held for review. What belongs to no top-up has neither one nor a wallet."""

    paid: Paid
    why: Why
    top_up_id: UUID | None
    user_id: UUID | None
    wallet_id: UUID | None
    received_at: datetime


class Answer(StrEnum):
    """What a bank is told that wants to take a customer's money."""

    YES = "yes"
    EXPIRED = "expired"
    SETTLED = "settled"
    BUSY = "busy"


def may_take(top_up: TopUp, payment_id: str, now: datetime) -> Answer:
    """Whether a bank may take the money of a payment that has just begun."""
    ours = top_up.payment_id == payment_id
    if top_up.status in PAID:
        # The news that it has begun comes after the news that it is done.
        return Answer.YES if ours else Answer.SETTLED
    if top_up.status is Status.PROCESSING:
        return Answer.YES if ours else Answer.BUSY
    if top_up.status is Status.EXPIRED or now > top_up.expires_at:
        return Answer.EXPIRED
    return Answer.YES


def why_held(top_up: TopUp | None, paid: Paid, *, suspended: bool) -> Why | None:
    """Why money that has come is not to be credited; None when it is."""
    if top_up is None or top_up.provider != paid.provider:
        return Why.UNKNOWN_REFERENCE
    if top_up.status in PAID:
        return Why.PAID_TWICE
    if (top_up.method, top_up.currency) != (paid.method, paid.currency):
        return Why.WRONG_METHOD
    if top_up.amount != paid.amount:
        return Why.WRONG_AMOUNT
    # What a bank was allowed to take is in time, however long it took.
    if paid.at > top_up.expires_at and paid.payment_id != top_up.payment_id:
        return Why.PAID_LATE
    return Why.ACCOUNT_SUSPENDED if suspended else None


def after_silence(top_up: TopUp, now: datetime, *, grace: float, patience: float) -> Status:
    """What becomes of an open top-up of which its bank says that it has no money for it.

    `grace` in seconds after it has expired, for clocks that differ; `patience` with a customer's bank that
    wanted to take the money and has not.
    """
    since = top_up.processing_since
    if top_up.status is Status.PROCESSING and since and (now - since).total_seconds() < patience:
        return Status.PROCESSING
    if (now - top_up.expires_at).total_seconds() > grace:
        return Status.EXPIRED
    return Status.PENDING
