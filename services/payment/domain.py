"""Values and rules of payment: currencies, wallets, limits. No I/O, no proto."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
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
