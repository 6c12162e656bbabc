"""Values and rules of bills. No I/O, no proto."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class BillStatus(StrEnum):
    """Whether a bill was paid."""

    PENDING = "pending"
    PAID = "paid"


@dataclass(frozen=True, slots=True)
class Bill:
    """Something that one person has to pay. `amount` in minor units."""

    id: UUID
    user_id: UUID
    amount: int
    currency: str
    description: str = field(repr=False)
    status: BillStatus
    created_at: datetime
    paid_at: datetime | None = None

    def as_made(self, description: str) -> Bill:
        """As it was when it was made for that, also when it is paid by now, or its text is erased."""
        return replace(self, description=description, status=BillStatus.PENDING, paid_at=None)


@dataclass(frozen=True, slots=True)
class BillTotals:
    """What one person's bills come to, after as many events as `events` says."""

    user_id: UUID
    events: int
    transactions: int
    amount: int
    paid: int
