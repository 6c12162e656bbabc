"""Values and rules of payment: currencies, wallets, limits. No I/O, no proto."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

# In which time zone the days of a currency's wallets are counted: where it is spent.
TIME_ZONES = {
    "THB": "Asia/Bangkok",
    "SGD": "Asia/Singapore",
    "IDR": "Asia/Jakarta",
    "MYR": "Asia/Kuala_Lumpur",
    "PHP": "Asia/Manila",
    "VND": "Asia/Ho_Chi_Minh",
    "USD": "UTC",
}
CURRENCIES = tuple(TIME_ZONES)


@dataclass(frozen=True, slots=True)
class Wallet:
    """Money of one person in one currency, in minor units. `spent_today` of the wallet's own day."""

    id: UUID
    owner: UUID
    currency: str
    balance: int
    held: int
    kyc_tier: int
    suspended: bool
    time_zone: str
    spent_today: int
    daily_limit: int
    created_at: datetime

    @property
    def available(self) -> int:
        """What can be spent."""
        return self.balance - self.held

    @property
    def left_today(self) -> int:
        """What may be sent today yet: never below zero, also when a limit was lowered."""
        return max(0, self.daily_limit - self.spent_today)


class Kind(StrEnum):
    """What a transfer is for."""

    SEND = "send"
    FEE = "fee"
    TOPUP = "topup"
    CAPTURE = "capture"
    REFUND = "refund"
    TRANSFER = "transfer"
    REVIEW = "review"


class Direction(StrEnum):
    """Which way money went, for one of its sides."""

    OUT = "out"
    IN = "in"


@dataclass(frozen=True, slots=True)
class Transaction:
    """Money that moved, as the owner of `wallet_id` sees it."""

    id: UUID
    kind: Kind
    wallet_id: UUID
    direction: Direction
    sender: UUID | None
    recipient: UUID | None
    amount: int
    currency: str
    fee: int
    balance_after: int
    created_at: datetime
    description: str = ""
    refers_to: UUID | None = None
    refunded: int = 0
    audit: tuple[AuditEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that happened with a transaction, or with what it was made for."""

    event: str
    actor: str
    amount: int | None
    transaction_id: UUID | None
    created_at: datetime


class HoldStatus(StrEnum):
    """Where a hold is on its way. Only a pending one holds anything."""

    PENDING = "pending"
    CAPTURED = "captured"
    VOIDED = "voided"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Hold:
    """Money of a wallet that is reserved for somebody."""

    id: UUID
    account_id: UUID
    payee_account: UUID
    sender: UUID
    recipient: UUID
    amount: int
    captured: int
    currency: str
    status: HoldStatus
    # The person who made it, or the service.
    caller: str
    expires_at: datetime
    created_at: datetime
    closed_at: datetime | None

    @property
    def remaining(self) -> int:
        """What is reserved yet."""
        return self.amount - self.captured if self.status is HoldStatus.PENDING else 0

    @property
    def is_of_a_service(self) -> bool:
        """Whether a service made it, and only that service captures it or lets go of it."""
        return self.caller != str(self.sender)

    def as_made(self) -> Hold:
        """As it was when it was made: everything else of it never changes."""
        return replace(self, captured=0, status=HoldStatus.PENDING, closed_at=None)

    def concerns(self, person: UUID) -> bool:
        """Whether somebody pays by it or is paid."""
        return person in {self.sender, self.recipient}


# What each payment needs is not frozen, though nobody changes it: that takes as long as all else that
# makes it.
@dataclass(slots=True)
class Payment:
    """What somebody wants to send."""

    sender: UUID
    wallet_id: UUID
    recipient: UUID
    amount: int
    currency: str
    description: str


@dataclass(slots=True)
class Told:
    """An event that becomes true with a transfer; joined to others of its subject that do so, too."""

    subject: str
    payload: bytes
    traceparent: str = ""


@dataclass(slots=True)
class Draft:
    """A transfer that is to be posted: an amount from an account to an account, or to the wallet of a person.

    `id` becomes that of the transaction. `owner`, where given, must own the debited account. `key` and
    `request_hash` are those of the request that wants it, if it shall be done once; `note` is a text that is
    sealed with the key of `person_id`.
    """

    id: UUID
    kind: Kind
    caller: str
    debit: UUID
    amount: int
    currency: str
    owner: UUID | None = None
    credit: UUID | None = None
    recipient: UUID | None = None
    fee: int = 0
    fee_id: UUID | None = None
    refers_to: UUID | None = None
    key: UUID | None = None
    request_hash: bytes | None = None
    person_id: UUID | None = None
    note: bytes | None = None
    told: Told | None = None


@dataclass(slots=True)
class Posted:
    """What became of a draft, now and for ever: the transaction, and what the debited account had after it.

    `created` is in microseconds since the epoch. `again` says that it had been posted before.
    """

    id: UUID
    balance_after: int
    fee: int
    created: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class FeeRule:
    """What a payment costs its sender: a fixed amount, and basis points (hundredths of a percent) of it."""

    fixed: int = 0
    basis_points: int = 0

    def of(self, amount: int) -> int:
        """The fee of an amount; half a minor unit is rounded up."""
        return self.fixed + (amount * self.basis_points + 5_000) // 10_000
