"""proto <-> domain for sampan.payment.v1.PaymentService: holds and refunds."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sampan.payment.v1 import hold_pb2, transaction_pb2
from sampan.payment.v1 import payment_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.payment import servicer_shapes as shapes
from services.payment.domain import Hold, Payment, Transaction
from services.payment.holds import HoldService
from services.payment.reading import ReadingService
from services.payment.refunds import RefundService
from services.payment.servicer_shapes import user_of


class HoldMethods:
    """Money that is reserved, and money that is given back."""

    def __init__(
        self, holds: HoldService, refunds: RefundService, reading: ReadingService, idempotency: Idempotency
    ) -> None:
        self._holds = holds
        self._refunds = refunds
        self._reading = reading
        self._idempotency = idempotency

    async def CreateHold(self, request: pb.CreateHoldRequest, call: Call) -> hold_pb2.Hold:
        wanted = Payment(
            sender=user_of(call),
            wallet_id=UUID(request.wallet_id),
            recipient=UUID(request.recipient_id),
            amount=request.amount,
            currency=request.currency,
            description="",
        )
        key = await self._idempotency.key(request, call)
        made = await self._holds.create(wanted, timedelta(seconds=request.expires_in), key)
        call.created(f"/v1/holds/{made.id}")
        return shapes.hold(made, wanted.sender)

    async def ListHolds(self, request: pb.ListHoldsRequest, call: Call) -> pb.ListHoldsResponse:
        person = user_of(call)
        page = await self._holds.list(person, request.status, request.limit, request.page_token)
        return pb.ListHoldsResponse(
            holds=[shapes.hold(one, person) for one in page.items],
            next_page_token=page.next_page_token,
            has_more=page.has_more,
        )

    async def GetHold(self, request: pb.GetHoldRequest, call: Call) -> hold_pb2.Hold:
        person = user_of(call)
        return shapes.hold(await self._holds.get(person, UUID(request.id)), person)

    async def CaptureHold(self, request: pb.CaptureHoldRequest, call: Call) -> pb.CaptureHoldResponse:
        person, key = user_of(call), await self._idempotency.key(request, call)

        def answer(hold: Hold, paid: Transaction) -> bytes:
            said = pb.CaptureHoldResponse(
                hold=shapes.hold(hold, person), transaction=shapes.transaction(paid)
            )
            return said.SerializeToString()

        answered = await self._holds.capture(
            person, UUID(request.hold_id), request.amount, answer, key, final=request.final
        )
        return pb.CaptureHoldResponse.FromString(answered)

    async def VoidHold(self, request: pb.VoidHoldRequest, call: Call) -> pb.VoidHoldResponse:
        person, key = user_of(call), await self._idempotency.key(request, call)
        return pb.VoidHoldResponse(
            hold=shapes.hold(await self._holds.void(person, UUID(request.hold_id), key), person)
        )

    async def CreateRefund(self, request: pb.CreateRefundRequest, call: Call) -> transaction_pb2.Transaction:
        person, key = user_of(call), await self._idempotency.key(request, call)
        made = await self._refunds.refund(person, UUID(request.transaction_id), request.amount, key)
        call.created(f"/v1/transactions/{made}")
        return shapes.transaction(await self._reading.get(person, made))
