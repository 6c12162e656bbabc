"""Domain errors of payment. The reasons are those of sampan.payment.v1.PaymentErrorReason."""

from __future__ import annotations

from services.mesh.errors import AlreadyExists, NotFound

DOMAIN = "sampan.payment"


class WalletNotFound(NotFound):
    reason = "WALLET_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such wallet"


class WalletExists(AlreadyExists):
    reason = "WALLET_EXISTS"
    domain = DOMAIN
    detail = "you have a wallet of this currency"
