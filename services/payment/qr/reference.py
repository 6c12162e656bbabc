"""References of payments: an id in 25 digits and capitals, which every rail carries."""

from __future__ import annotations

from uuid import UUID

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LENGTH = 25


def of_id(made: UUID) -> str:
    """The reference of an id."""
    number, text = made.int, ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text.zfill(_LENGTH)


def to_id(reference: str) -> UUID | None:
    """The id of a reference; None when it is of no id."""
    if len(reference) != _LENGTH or not all(letter in _DIGITS for letter in reference):
        return None
    number = int(reference, 36)
    return UUID(int=number) if number < 1 << 128 else None
