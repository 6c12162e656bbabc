"""Values and rules of profile: what there is to show, to whom, and who may change it. No I/O, no proto."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class BankAccount:
    """Where somebody wants to be paid out; empty strings for what they left out.

    Kept out of reprs, which end up in logs.
    """

    name: str = field(default="", repr=False)
    holder: str = field(default="", repr=False)
    number: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Profile:
    """A person's profile. `bank` is None for those who may not see it."""

    id: UUID
    user_id: UUID
    display_name: str
    bio: str
    avatar_url: str
    created_at: datetime
    updated_at: datetime
    bank: BankAccount | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change in a profile; None leaves a field as it is, an empty string clears it."""

    display_name: str | None = None
    bio: str | None = None
    avatar_url: str | None = None
    bank_account_name: str | None = field(default=None, repr=False)
    bank_account_holder: str | None = field(default=None, repr=False)
    bank_account_number: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> dict[str, str]:
        """The changes of the public part, by field."""
        fields = {
            "display_name": None if self.display_name is None else normal_name(self.display_name),
            "bio": self.bio,
            "avatar_url": self.avatar_url,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def bank(self) -> dict[str, str]:
        """The changes of the bank account, by field."""
        fields = {
            "bank_account_name": self.bank_account_name,
            "bank_account_holder": self.bank_account_holder,
            "bank_account_number": self.bank_account_number,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks."""

    user_id: UUID
    is_admin: bool = False

    def sees_bank_of(self, owner: UUID) -> bool:
        """Whether bank details are for this person: for the owner alone, not for administrators either."""
        return self.user_id == owner

    def may_change(self, owner: UUID) -> bool:
        """Whether this person may change or delete the profile of another: administrators may."""
        return self.is_admin or self.user_id == owner


def normal_name(name: str) -> str:
    """A display name as it is kept: without spaces around it."""
    return name.strip() or name
