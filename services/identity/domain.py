"""Values and rules of identity: accounts, identifiers, sessions. No I/O, no proto."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import phonenumbers
from email_validator import EmailNotValidError, validate_email


class AccountStatus(StrEnum):
    """Whether somebody may sign in."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class IdentifierKind(StrEnum):
    """By what other than the user name a person can be found."""

    EMAIL = "email"
    PHONE = "phone"


@dataclass(frozen=True, slots=True)
class Account:
    """A person's account. `email` and `phone` are clear text, empty when absent."""

    id: UUID
    username: str
    display_name: str
    avatar_url: str
    status: AccountStatus
    kyc_tier: int
    roles: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    email: str = ""
    phone: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a person may do with money. `version` grows with each change of it."""

    account_id: UUID
    kyc_tier: int
    status: AccountStatus
    version: int


@dataclass(frozen=True, slots=True)
class Identifier:
    """An e-mail address or a phone number, in the one form in which it is compared."""

    kind: IdentifierKind
    value: str


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in on one device.

    `generation` counts its refresh tokens; `salt` makes them unguessable together with a key that is not
    in the database; `rotated_at` is when the present pair was issued.
    """

    id: UUID
    account_id: UUID
    generation: int
    salt: bytes
    rotated_at: datetime
    refresh_expires_at: datetime
    created_at: datetime
    device: str = ""
    last_request_id: UUID | None = None
    ended_at: datetime | None = None

    def is_untouched(self, now: datetime) -> bool:
        """Whether it is as it was when somebody signed in: neither refreshed nor over."""
        return self.generation == 1 and self.ended_at is None and self.refresh_expires_at > now

    def rotated(self, now: datetime, expires_at: datetime, request_id: UUID | None) -> Session:
        """The session after one more refresh."""
        return replace(
            self,
            generation=self.generation + 1,
            rotated_at=now,
            refresh_expires_at=expires_at,
            last_request_id=request_id,
        )

    def repeats(self, generation: int, request_id: UUID | None, now: datetime, window: timedelta) -> bool:
        """Whether a refresh is the last one once more: its answer was lost, and nobody used the new token."""
        return (
            generation == self.generation - 1
            and request_id is not None
            and request_id == self.last_request_id
            and now - self.rotated_at <= window
        )


class Purpose(StrEnum):
    """What a one-time code is for."""

    LOGIN = "login"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Challenge:
    """A code that was sent. `sealed` is None when it cannot be used any more."""

    id: UUID
    purpose: Purpose
    kind: IdentifierKind
    lookup: bytes
    sealed: bytes | None
    code_mac: bytes


def normal_email(address: str) -> str | None:
    """The form in which addresses are compared: trimmed, lower case; None when it cannot be an address."""
    try:
        checked = validate_email(address.strip(), check_deliverability=False)
    except EmailNotValidError:
        return None
    return checked.normalized.lower()


def normal_phone(number: str, country: str = "") -> str | None:
    """The number in E.164, or None when no such number can exist.

    `country` (ISO 3166-1, two letters) says how to read a number that is written without +.
    """
    try:
        parsed = phonenumbers.parse(number, country.upper() or None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def normal_username(name: str) -> str:
    """The form in which user names are compared."""
    return name.strip().lower()
