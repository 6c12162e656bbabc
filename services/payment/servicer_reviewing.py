"""proto <-> domain: money that is held for review."""

from __future__ import annotations

from uuid import UUID

from sampan.payment.v1 import top_up_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.payment.domain_topups import Decision, Held
from services.payment.reviewing import ReviewService


class ReviewMethods:
    """Methods of sampan.payment.v1.PaymentInternalService."""

    def __init__(self, review: ReviewService, idempotency: Idempotency) -> None:
        self._review = review
        self._key = idempotency.key

    async def ListHeldPayments(
        self, request: pb.ListHeldPaymentsRequest, _: Call
    ) -> pb.ListHeldPaymentsResponse:
        found = await self._review.waiting(request.limit)
        return pb.ListHeldPaymentsResponse(payments=[_held(one) for one in found])

    async def ResolvePayment(
        self, request: pb.ResolvePaymentRequest, call: Call
    ) -> pb.ResolvePaymentResponse:
        key = await self._key(request, call)
        wallet_id = UUID(request.wallet_id) if request.wallet_id else None
        decision = Decision(request.decision)
        done = await self._review.resolve(request.provider, request.payment_id, decision, wallet_id, key)
        return pb.ResolvePaymentResponse(transaction_id=str(done))


def _held(held: Held) -> pb.HeldPayment:
    paid = held.paid
    shown = pb.HeldPayment(
        provider=paid.provider,
        payment_id=paid.payment_id,
        reason=held.why.value,
        method=paid.method,
        reference=paid.reference,
        amount=paid.amount,
        currency=paid.currency,
        top_up_id=str(held.top_up_id or ""),
        user_id=str(held.user_id or ""),
        wallet_id=str(held.wallet_id or ""),
    )
    shown.paid_at.FromDatetime(paid.at)
    shown.received_at.FromDatetime(held.received_at)
    return shown
