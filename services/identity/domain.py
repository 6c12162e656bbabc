"""Values and rules of identity: accounts, identifiers, sessions. No I/O, no proto."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import phonenumbers


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


def normal_email(address: str) -> str:
    """The form in which addresses are compared: trimmed, lower case."""
    return address.strip().lower()


def normal_phone(number: str) -> str | None:
    """The number in E.164, or None when no such number can exist."""
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def normal_username(name: str) -> str:
    """The form in which user names are compared."""
    return name.strip().lower()
