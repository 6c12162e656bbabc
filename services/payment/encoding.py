"""A payment in the bytes of the contract: what is published of it, and what its sender is answered."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from services.mesh.encoding import part, timestamp, varint
from services.payment.domain import Direction, Kind, Payment, Posted


def transfers_sent(transaction_id: UUID, sender: str, payment: Payment, seconds: int) -> bytes:
    """sampan.payment.v1.TransfersSent of one payment, which was asked for at `seconds` since the epoch.

    `sender` is the text of its sender's id, which who asks has already.
    """
    # Ids have 36 characters.
    head = f"\x0a\x24{transaction_id}\x12\x24{sender}\x1a\x24{payment.recipient}\x20".encode()
    return part(b"\x0a", head + varint(payment.amount) + _end(payment.currency, seconds))


# Many payments of a second have it in common.
@lru_cache(64)
def _end(currency: str, seconds: int) -> bytes:
    return part(b"\x2a", currency.encode()) + part(b"\x32", timestamp(seconds * 1_000_000))


def transaction(payment: Payment, sender: str, sent: Posted) -> bytes:
    """sampan.payment.v1.Transaction of a payment, as its sender sees it."""
    own = f"\x0a\x24{sent.id}{_SENT}{payment.wallet_id}{_OUT}{sender}"
    return b"".join(
        (
            f"{own}\x3a\x24{payment.recipient}\x40".encode(),
            varint(payment.amount),
            part(b"\x4a", payment.currency.encode()),
            b"\x50" + varint(sent.fee) if sent.fee else b"",
            b"\x58" + varint(sent.balance_after) if sent.balance_after else b"",
            part(b"\x62", payment.description.encode()) if payment.description else b"",
            part(b"\x72", timestamp(sent.created)),
        )
    )


def _text(tag: str, value: str) -> str:
    return f"{tag}{chr(len(value))}{value}"


# What all of them say between their ids: kind and status, then the direction.
_SENT = _text("\x12", Kind.SEND.value) + _text("\x1a", "completed") + "\x22\x24"
_OUT = _text("\x2a", Direction.OUT.value) + "\x32\x24"
