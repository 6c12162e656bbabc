"""proto <-> domain: acknowledged events."""

from __future__ import annotations

from uuid import UUID

from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.messaging.acks import AckService


class AckMethods:
    """Methods of sampan.messaging.v1.MessagingService."""

    def __init__(self, acks: AckService, idempotency: Idempotency) -> None:
        self._acks = acks
        self._key = idempotency.key

    async def AckEvents(self, request: pb.AckEventsRequest, call: Call) -> pb.AckEventsResponse:
        user_id, key = UUID(call.require_user().id), await self._key(request, call)
        await self._acks.acknowledge(user_id, request.device_id, request.resume, key)
        return pb.AckEventsResponse()
