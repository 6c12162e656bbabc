"""proto <-> domain for sampan.notification.v1."""

from __future__ import annotations

from uuid import UUID

from sampan.notification.v1 import notification_internal_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.notification.domain import Channel, Order, Status
from services.notification.service import Delivery, NotificationService

_DEFAULT_LIMIT = 10


class NotificationInternalServicer:
    """Implements sampan.notification.v1.NotificationInternalService."""

    def __init__(self, service: NotificationService, idempotency: Idempotency) -> None:
        self._service = service
        self._key = idempotency.key

    async def Deliver(self, request: pb.DeliverRequest, call: Call) -> pb.DeliverResponse:
        order = Order(
            channel=Channel(request.channel),
            template=request.template,
            language=request.language,
            to=request.to,
            parameters=dict(request.parameters),
        )
        done = await self._service.deliver(call.caller, UUID(request.request_id), order)
        return pb.DeliverResponse(id=str(done))

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, _: Call) -> pb.ListDeliveriesResponse:
        found = await self._service.newest(
            to=request.to,
            status=Status(request.status) if request.status else None,
            limit=request.limit or _DEFAULT_LIMIT,
        )
        return pb.ListDeliveriesResponse(deliveries=[_delivery(one) for one in found])

    async def ReplayDead(self, request: pb.ReplayDeadRequest, call: Call) -> pb.ReplayDeadResponse:
        only = None if request.all else UUID(request.id)
        replayed = await self._service.replay(only, await self._key(request, call))
        return pb.ReplayDeadResponse(replayed=replayed)


def _delivery(one: Delivery) -> pb.Delivery:
    shown = pb.Delivery(
        id=str(one.id),
        to=one.to,
        channel=one.channel.value,
        body=one.letter.body if one.letter else "",
        code=one.letter.code if one.letter else "",
        status=one.status.value,
        attempts=one.attempts,
        failure=one.failure,
        template=one.template,
    )
    shown.created_at.FromDatetime(one.created_at)
    return shown
