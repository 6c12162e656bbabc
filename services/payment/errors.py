"""Domain errors of payment. The reasons are those of sampan.payment.v1.PaymentErrorReason."""

from __future__ import annotations

from services.mesh.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    RateLimited,
)

DOMAIN = "sampan.payment"


class WalletNotFound(NotFound):
    reason = "WALLET_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such wallet"


class WalletExists(AlreadyExists):
    reason = "WALLET_EXISTS"
    domain = DOMAIN
    detail = "you have a wallet of this currency"


class InsufficientFunds(FailedPrecondition):
    reason = "INSUFFICIENT_FUNDS"
    domain = DOMAIN
    detail = "the wallet has not enough for this"


class DailyLimitExceeded(RateLimited):
    reason = "DAILY_LIMIT_EXCEEDED"
    domain = DOMAIN
    detail = "this is more than the wallet may send today"


class RecipientNotFound(NotFound):
    reason = "RECIPIENT_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such person, or no wallet of theirs that can take this"


class CurrencyMismatch(InvalidArgument):
    reason = "CURRENCY_MISMATCH"
    domain = DOMAIN
    detail = "the wallet has another currency"


class SelfTransfer(InvalidArgument):
    reason = "SELF_TRANSFER"
    domain = DOMAIN
    detail = "a payment goes to somebody else"


class AccountSuspended(PermissionDenied):
    reason = "ACCOUNT_SUSPENDED"
    domain = DOMAIN
    detail = "nothing can be paid from this account now"


class TransactionNotFound(NotFound):
    reason = "TRANSACTION_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such transaction"


class NotRefundable(FailedPrecondition):
    reason = "NOT_REFUNDABLE"
    domain = DOMAIN
    detail = "this cannot be refunded"


class RefundExceeded(FailedPrecondition):
    reason = "REFUND_EXCEEDED"
    domain = DOMAIN
    detail = "the refund is more than what is left of the payment"


class StatementTooLong(FailedPrecondition):
    reason = "STATEMENT_TOO_LONG"
    domain = DOMAIN
    detail = "the statement would be too long: ask for a shorter time"


class HoldNotFound(NotFound):
    reason = "HOLD_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such hold"


class HoldClosed(FailedPrecondition):
    reason = "HOLD_CLOSED"
    domain = DOMAIN
    detail = "the hold is closed"


class HoldExpired(FailedPrecondition):
    reason = "HOLD_EXPIRED"
    domain = DOMAIN
    detail = "the hold has expired"


class CaptureExceeded(FailedPrecondition):
    reason = "CAPTURE_EXCEEDED"
    domain = DOMAIN
    detail = "the capture is more than what is held"


class BillNotFound(NotFound):
    reason = "BILL_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such bill"


class BillCapExceeded(FailedPrecondition):
    reason = "BILL_CAP_EXCEEDED"
    domain = DOMAIN
    detail = "your pending bills would come to more than they may: pay them first"
