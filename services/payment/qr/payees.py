"""Payees of the sandbox: accounts that have the form of each rail, and belong to nobody."""

from __future__ import annotations

from services.payment.qr.rails import Payee

_NAME = "SAMPAN SANDBOX"

SANDBOX: dict[str, Payee] = {
    "promptpay": Payee(_NAME, "BANGKOK", {"tax_id": "0994000000000"}),
    "paynow": Payee(_NAME, "SINGAPORE", {"uen": "209900000Z"}),
    "qris": Payee(
        _NAME,
        "JAKARTA",
        {
            "acquirer": "ID.SAMPAN.WWW",
            "pan": "9360000000000000000",
            "merchant_id": "SANDBOX",
            "nmid": "ID0000000000000",
            "criteria": "UMI",
        },
    ),
    "duitnow": Payee(_NAME, "KUALA LUMPUR", {"acquirer": "000000", "merchant_id": "SANDBOX"}),
    "qrph": Payee(
        _NAME,
        "MANILA",
        {"acquirer": "XXXXPHM0XXX", "merchant_id": "SANDBOX", "credit_account": "0000000000"},
    ),
    "vietqr": Payee(_NAME, "HANOI", {"bin": "970400", "account_number": "0000000000"}),
}
