"""Values of analytics: what an event adds, and sums of that. No I/O, no proto."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over bills. `amount` in minor units of the bills' currency."""

    transactions: int = 0
    amount: int = 0
    paid: int = 0
    events: int = 0


@dataclass(frozen=True, slots=True)
class Fact:
    """What one event of a person's bills adds. `version` counts that person's events, from 1."""

    user_id: UUID
    version: int
    transactions: int = 0
    amount: int = 0
    paid: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """Figures of all, and of how many people they are."""

    figures: Figures
    users: int


@dataclass(frozen=True, slots=True)
class Known:
    """What payment itself knows of a person's bills, after as many events as `figures` says."""

    user_id: UUID
    figures: Figures


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks."""

    id: UUID
    is_admin: bool

    def may_see(self, user_id: UUID) -> bool:
        """Whether somebody's figures are for them."""
        return self.is_admin or self.id == user_id
