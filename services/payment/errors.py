"""Domain errors of payment. The reasons are those of sampan.payment.v1.PaymentErrorReason."""

from __future__ import annotations

from services.mesh.errors import AlreadyExists, FailedPrecondition, NotFound

DOMAIN = "sampan.payment"


class WalletNotFound(NotFound):
    reason = "WALLET_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such wallet"


class WalletExists(AlreadyExists):
    reason = "WALLET_EXISTS"
    domain = DOMAIN
    detail = "you have a wallet of this currency"


class BillNotFound(NotFound):
    reason = "BILL_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such bill"


class BillCapExceeded(FailedPrecondition):
    reason = "BILL_CAP_EXCEEDED"
    domain = DOMAIN
    detail = "your pending bills would come to more than they may: pay them first"
