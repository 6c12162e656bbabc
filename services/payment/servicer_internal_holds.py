"""proto <-> domain for sampan.payment.v1.PaymentInternalService: what services hold for people."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sampan.payment.v1 import hold_pb2
from sampan.payment.v1 import service_hold_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.payment import servicer_shapes as shapes
from services.payment.domain import Hold, HoldStatus
from services.payment.service_holds import ServiceHolds, Wanted


class ServiceHoldMethods:
    """Money that a service reserves, pays or lets go of."""

    def __init__(self, holds: ServiceHolds, idempotency: Idempotency) -> None:
        self._holds = holds
        self._key = idempotency.key

    async def PlaceHold(self, request: pb.PlaceHoldRequest, call: Call) -> pb.PlaceHoldResponse:
        wanted = Wanted(
            hold_id=UUID(request.hold_id),
            sender=UUID(request.sender_id),
            recipient=UUID(request.recipient_id),
            amount=request.amount,
            currency=request.currency,
        )
        key, life = await self._key(request, call), timedelta(seconds=request.expires_in)
        return pb.PlaceHoldResponse(hold=_hold(await self._holds.place(call.caller, wanted, life, key)))

    async def SettleHold(self, request: pb.SettleHoldRequest, call: Call) -> pb.SettleHoldResponse:
        key = await self._key(request, call)
        answered = await self._holds.settle(
            call.caller, UUID(request.hold_id), request.amount, _answer, key, final=request.final
        )
        return pb.SettleHoldResponse.FromString(answered)

    async def ReleaseHold(self, request: pb.ReleaseHoldRequest, call: Call) -> pb.ReleaseHoldResponse:
        key = await self._key(request, call)
        hold = await self._holds.release(call.caller, UUID(request.hold_id), key)
        if hold is not None:
            return pb.ReleaseHoldResponse(hold=_hold(hold))
        nothing = hold_pb2.Hold(id=str(UUID(request.hold_id)), status=HoldStatus.VOIDED.value)
        return pb.ReleaseHoldResponse(hold=nothing)


def _answer(hold: Hold, transaction_id: UUID) -> bytes:
    answer = pb.SettleHoldResponse(hold=_hold(hold), transaction_id=str(transaction_id))
    return answer.SerializeToString()


def _hold(hold: Hold) -> hold_pb2.Hold:
    """A hold as who pays sees it: all of it."""
    return shapes.hold(hold, hold.sender)
