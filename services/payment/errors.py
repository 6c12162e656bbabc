"""Domain errors of payment. The reasons are those of sampan.payment.v1.PaymentErrorReason."""

from __future__ import annotations

from services.mesh.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
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


class HoldExists(AlreadyExists):
    reason = "HOLD_EXISTS"
    domain = DOMAIN
    detail = "another hold has this id"


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


class TopUpNotFound(NotFound):
    reason = "TOP_UP_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such top-up"


class AmountTooLarge(InvalidArgument):
    reason = "AMOUNT_TOO_LARGE"
    domain = DOMAIN
    detail = "this is more than may be topped up at once"


class TooManyTopUps(FailedPrecondition):
    reason = "TOO_MANY_TOP_UPS"
    domain = DOMAIN
    detail = "you have too many top-ups open: pay one, or wait until they expire"


class MethodUnavailable(FailedPrecondition):
    reason = "METHOD_UNAVAILABLE"
    domain = DOMAIN
    detail = "nobody takes money by this method just now"


class ProviderNotFound(NotFound):
    reason = "PROVIDER_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such provider"


class SignatureInvalid(Unauthenticated):
    reason = "SIGNATURE_INVALID"
    domain = DOMAIN
    detail = "the callback is not signed by this provider"


class CallbackStale(Unauthenticated):
    reason = "CALLBACK_STALE"
    domain = DOMAIN
    detail = "the callback was signed too long ago, or in the future"


class CallbackMalformed(InvalidArgument):
    reason = "CALLBACK_MALFORMED"
    domain = DOMAIN
    detail = "the callback cannot be read"


class CallbackConflict(FailedPrecondition):
    reason = "CALLBACK_CONFLICT"
    domain = DOMAIN
    detail = "another payment has this id"


class QrExpired(FailedPrecondition):
    reason = "QR_EXPIRED"
    domain = DOMAIN
    detail = "this QR has expired: ask for a new one"


class TopUpSettled(FailedPrecondition):
    reason = "TOP_UP_SETTLED"
    domain = DOMAIN
    detail = "this QR is paid already"


class PaymentInProgress(FailedPrecondition):
    reason = "PAYMENT_IN_PROGRESS"
    domain = DOMAIN
    detail = "somebody is paying this QR"


class PaymentNotHeld(NotFound):
    reason = "PAYMENT_NOT_HELD"
    domain = DOMAIN
    detail = "there is no such payment among those held for review"


class PaymentResolved(FailedPrecondition):
    reason = "PAYMENT_RESOLVED"
    domain = DOMAIN
    detail = "this payment was decided about before"
