"""Payments as bytes: the same as protobuf makes of them."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from sampan.payment.v1 import events_pb2, transaction_pb2
from services.payment import encoding
from services.payment.domain import Payment, Posted

IDS = st.uuids()
AMOUNTS = st.integers(1, (1 << 63) - 1)
SENDER = str(uuid.uuid4())
PAYMENTS = st.builds(
    Payment,
    sender=st.just(uuid.UUID(SENDER)),
    wallet_id=IDS,
    recipient=IDS,
    amount=AMOUNTS,
    currency=st.sampled_from(["THB", "VND"]),
    description=st.text(max_size=280),
)


@given(IDS, PAYMENTS, st.integers(1, 1 << 40))
def test_what_is_published_of_a_payment_has_the_bytes_that_protobuf_gives_it(
    transaction_id: uuid.UUID, payment: Payment, seconds: int
) -> None:
    expected = events_pb2.TransfersSent()
    told = expected.transfers.add(
        transaction_id=str(transaction_id),
        sender_id=SENDER,
        recipient_id=str(payment.recipient),
        amount=payment.amount,
        currency=payment.currency,
    )
    told.sent_at.seconds = seconds

    found = encoding.transfers_sent(transaction_id, SENDER, payment, seconds)
    assert found == expected.SerializeToString(deterministic=True)
    # Joined bytes are the message of both.
    assert len(events_pb2.TransfersSent.FromString(found + found).transfers) == 2


@given(PAYMENTS, IDS, st.integers(0, (1 << 63) - 1), st.integers(0, 1 << 40), st.integers(1_000_000, 1 << 52))
def test_what_a_payment_is_answered_with_has_the_bytes_that_protobuf_gives_it(
    payment: Payment, transaction_id: uuid.UUID, balance: int, fee: int, created: int
) -> None:
    expected = transaction_pb2.Transaction(
        id=str(transaction_id),
        kind="send",
        status="completed",
        wallet_id=str(payment.wallet_id),
        direction="out",
        sender_id=SENDER,
        recipient_id=str(payment.recipient),
        amount=payment.amount,
        currency=payment.currency,
        fee=fee,
        balance_after=balance,
        description=payment.description,
    )
    expected.created_at.FromMicroseconds(created)

    found = encoding.transaction(payment, SENDER, Posted(transaction_id, balance, fee, created))
    assert found == expected.SerializeToString(deterministic=True)
