"""A QR payload as a request for money: made for one payment, and read by who pays it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from services.payment.qr import tlv
from services.payment.qr.rails import MARKS, RAILS, REFERENCE, Payee, Rail
from services.payment.qr.tlv import QrInvalid

# Loading of stored value by who is not a bank (ISO 18245).
_CATEGORY = "6540"
# Of one payment, as opposed to one that hangs on a wall.
_DYNAMIC = "12"
_REFERENCE = re.compile(r"[0-9A-Z]{1,25}")
_AMOUNT = re.compile(r"(\d{1,12})(?:\.(\d{1,2}))?")
_AMOUNT_LONGEST = 13
_SINGAPORE = timezone(timedelta(hours=8))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a QR asks for: `amount` in minor units of `currency`, by `reference`, over the rail `method`."""

    method: str
    amount: int
    currency: str
    reference: str


def make(method: str, payee: Payee, amount: int, reference: str, expires_at: datetime) -> str:
    """A payload for one payment. `amount` in minor units, `reference` up to 25 of 0-9 and A-Z.

    Raises QrInvalid for what does not fit: EMVCo gives an amount 13 characters.
    """
    rail = RAILS[method]
    if not _REFERENCE.fullmatch(reference):
        raise QrInvalid("a reference has 1 to 25 of 0-9 and A-Z")
    # Of the six only PayNow writes down when it ends, in its own country's time.
    expires = expires_at.astimezone(_SINGAPORE).strftime("%Y%m%d%H%M%S")
    return tlv.sealed(
        tlv.write(
            [
                ("00", "01"),
                ("01", _DYNAMIC),
                *rail.template(payee.account, expires),
                ("52", _CATEGORY),
                ("53", rail.number),
                ("54", amount_text(amount, rail)),
                ("58", rail.country),
                ("59", payee.name),
                ("60", payee.city),
                ("62", tlv.write((tag, reference) for tag in rail.references)),
            ]
        )
    )


def amount_text(amount: int, rail: Rail) -> str:
    """Minor units as EMVCo writes them, with the currency's own digits. Raises QrInvalid."""
    whole, rest = divmod(amount, int(10**rail.digits))
    text = f"{whole}.{rest:0{rail.digits}d}" if rail.digits else str(whole)
    if amount <= 0 or len(text) > _AMOUNT_LONGEST:
        raise QrInvalid("an amount is above zero and has up to 13 characters")
    return text


def parse(payload: str) -> Asked:
    """What a payload asks for, as a banking app reads it. Raises QrInvalid."""
    fields = tlv.read(tlv.opened(payload))
    rail = _rail(fields)
    if fields.get("00") != "01" or fields.get("01") != _DYNAMIC:
        raise QrInvalid("this is no QR of one payment")
    if fields.get("53") != rail.number or fields.get("58") != rail.country:
        raise QrInvalid("country or currency is not the rail's")
    reference = tlv.read(fields.get("62", "")).get(REFERENCE, "")
    if not _REFERENCE.fullmatch(reference):
        raise QrInvalid("there is no reference")
    return Asked(rail.name, _amount(fields.get("54", ""), rail), rail.currency, reference)


def _rail(fields: dict[str, str]) -> Rail:
    for tag, value in fields.items():
        if "26" <= tag <= "51":
            method = MARKS.get(tlv.read(value).get("00", ""))
            if method is not None and RAILS[method].tag == tag:
                return RAILS[method]
    raise QrInvalid("this is the QR of no rail we know")


def _amount(text: str, rail: Rail) -> int:
    found = _AMOUNT.fullmatch(text)
    if found is None or (rail.digits == 0 and found[2]):
        raise QrInvalid("there is no amount")
    # Digits side by side are minor units.
    amount = int(found[1] + (found[2] or "").ljust(rail.digits, "0"))
    if amount <= 0:
        raise QrInvalid("there is no amount")
    return amount
