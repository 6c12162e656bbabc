"""The six rails: whose account a QR names and where, in which currency, and where the reference goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from services.payment.qr import tlv
from services.payment.qr.tlv import Field

# EMVCo's place for the payee's own number: every rail has it.
REFERENCE = "05"


@dataclass(frozen=True, slots=True)
class Payee:
    """Who is paid over a rail: its name and city as customers see them, and what the rail asks for.

    `account` holds the values of the rail's own fields, by the names in its `Rail.account`.
    """

    name: str
    city: str
    account: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rail:
    """A country's way to pay by QR.

    `tag` is its merchant account template, `template` makes that and whatever else it wants from `account`.
    `digits` is how many of the currency's minor digits there are, `number` the currency's in ISO 4217.
    `references` are fields of template 62 that get the reference: banks show different ones.
    """

    name: str
    country: str
    currency: str
    number: str
    digits: int
    tag: str
    account: tuple[str, ...]
    template: Callable[[Mapping[str, str], str], Sequence[Field]]
    references: tuple[str, ...] = (REFERENCE,)


def _promptpay(account: Mapping[str, str], _: str) -> Sequence[Field]:
    # 02 is a national or tax number of 13 digits.
    return [("29", tlv.write([("00", "A000000677010111"), ("02", account["tax_id"])]))]


def _paynow(account: Mapping[str, str], expires: str) -> Sequence[Field]:
    # 01 = 2: named by UEN. 03 = 0: the customer cannot change the amount. 04: until when.
    fields = [("00", "SG.PAYNOW"), ("01", "2"), ("02", account["uen"]), ("03", "0"), ("04", expires)]
    return [("26", tlv.write(fields))]


def _qris(account: Mapping[str, str], _: str) -> Sequence[Field]:
    acquirer = [
        ("00", account["acquirer"]),
        ("01", account["pan"]),
        ("02", account["merchant_id"]),
        ("03", account["criteria"]),
    ]
    national = [("00", "ID.CO.QRIS.WWW"), ("02", account["nmid"]), ("03", account["criteria"])]
    return [("26", tlv.write(acquirer)), ("51", tlv.write(national))]


def _duitnow(account: Mapping[str, str], _: str) -> Sequence[Field]:
    fields = [("00", "A0000006150001"), ("01", account["acquirer"]), ("02", account["merchant_id"])]
    return [("26", tlv.write(fields))]


def _qrph(account: Mapping[str, str], _: str) -> Sequence[Field]:
    # Payments to merchants: acquirer as a BIC of 11, merchant, account that is credited.
    fields = [
        ("00", "ph.ppmi.p2m"),
        ("01", account["acquirer"]),
        ("03", account["merchant_id"]),
        ("04", account["credit_account"]),
    ]
    return [("28", tlv.write(fields))]


def _vietqr(account: Mapping[str, str], _: str) -> Sequence[Field]:
    bank = tlv.write([("00", account["bin"]), ("01", account["account_number"])])
    # QRIBFTTA: to an account, as opposed to a card.
    return [("38", tlv.write([("00", "A000000727"), ("01", bank), ("02", "QRIBFTTA")]))]


RAILS: dict[str, Rail] = {
    rail.name: rail
    for rail in (
        Rail("promptpay", "TH", "THB", "764", 2, "29", ("tax_id",), _promptpay),
        # Banks of Singapore pass the bill number on.
        Rail("paynow", "SG", "SGD", "702", 2, "26", ("uen",), _paynow, ("01", REFERENCE)),
        Rail(
            "qris",
            "ID",
            "IDR",
            "360",
            2,
            "51",
            ("acquirer", "pan", "merchant_id", "nmid", "criteria"),
            _qris,
        ),
        Rail("duitnow", "MY", "MYR", "458", 2, "26", ("acquirer", "merchant_id"), _duitnow),
        Rail("qrph", "PH", "PHP", "608", 2, "28", ("acquirer", "merchant_id", "credit_account"), _qrph),
        # Banks of Vietnam pass the purpose on.
        Rail("vietqr", "VN", "VND", "704", 0, "38", ("bin", "account_number"), _vietqr, (REFERENCE, "08")),
    )
}

# What a template names itself by, in its field 00.
MARKS: dict[str, str] = {
    "A000000677010111": "promptpay",
    "SG.PAYNOW": "paynow",
    "ID.CO.QRIS.WWW": "qris",
    "A0000006150001": "duitnow",
    "ph.ppmi.p2m": "qrph",
    "A000000727": "vietqr",
}
