"""proto <-> domain: shapes that several parts of the servicer show."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from sampan.payment.v1 import hold_pb2, transaction_pb2, wallet_pb2
from services.mesh import ids
from services.mesh.call import Call
from services.mesh.errors import InvalidArgument, Violation
from services.payment.domain import AuditEntry, Hold, Transaction, Wallet


def user_of(call: Call) -> UUID:
    """Who calls."""
    return ids.read(call.require_user().id)


def text_of(found: UUID | None) -> str:
    """An id, or the empty string."""
    return "" if found is None else str(found)


def id_of(text: str) -> UUID | None:
    """The id of a text, or None."""
    return UUID(text) if text else None


def moment_of(request: Message, field: str) -> datetime | None:
    """A time of a request, or None when it has none. Raises InvalidArgument for one that cannot be."""
    if not request.HasField(field):
        return None
    given: Timestamp = getattr(request, field)
    try:
        return given.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        wrong = Violation(field, "timestamp.valid", "must be a time of the years 1 to 9999")
        raise InvalidArgument(violations=(wrong,)) from error


def wallet(given: Wallet) -> wallet_pb2.Wallet:
    """A wallet for its owner."""
    shown = wallet_pb2.Wallet(
        id=str(given.id),
        currency=given.currency,
        balance=given.balance,
        held=given.held,
        available=given.available,
        limits=wallet_pb2.WalletLimits(
            kyc_tier=given.kyc_tier,
            daily=given.daily_limit,
            spent_today=given.spent_today,
            left_today=given.left_today,
            time_zone=given.time_zone,
        ),
    )
    shown.created_at.FromDatetime(given.created_at)
    return shown


def transaction(given: Transaction) -> transaction_pb2.Transaction:
    """A transaction as its side sees it."""
    made = transaction_pb2.Transaction(
        id=str(given.id),
        kind=given.kind.value,
        status="completed",
        wallet_id=str(given.wallet_id),
        direction=given.direction.value,
        sender_id=text_of(given.sender),
        recipient_id=text_of(given.recipient),
        amount=given.amount,
        currency=given.currency,
        fee=given.fee,
        balance_after=given.balance_after,
        description=given.description,
        refers_to=text_of(given.refers_to),
        refunded=given.refunded,
        audit=[audit(one) for one in given.audit],
    )
    made.created_at.FromDatetime(given.created_at)
    return made


def audit(given: AuditEntry) -> transaction_pb2.AuditEntry:
    """What happened once."""
    made = transaction_pb2.AuditEntry(
        event=given.event,
        actor=given.actor,
        amount=given.amount or 0,
        transaction_id=text_of(given.transaction_id),
    )
    made.created_at.FromDatetime(given.created_at)
    return made


def hold(given: Hold, seen_by: UUID) -> hold_pb2.Hold:
    """A hold as one of its two people sees it."""
    made = hold_pb2.Hold(
        id=str(given.id),
        wallet_id=str(given.account_id) if seen_by == given.sender else "",
        sender_id=str(given.sender),
        recipient_id=str(given.recipient),
        amount=given.amount,
        captured=given.captured,
        remaining=given.remaining,
        currency=given.currency,
        status=given.status.value,
    )
    made.expires_at.FromDatetime(given.expires_at)
    made.created_at.FromDatetime(given.created_at)
    if given.closed_at is not None:
        made.closed_at.FromDatetime(given.closed_at)
    return made
