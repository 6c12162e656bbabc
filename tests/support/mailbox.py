"""What people were sent: read as an operator would."""

from __future__ import annotations

import grpc

from sampan.notification.v1 import notification_internal_service_pb2 as pb
from sampan.notification.v1.notification_internal_service_pb2_grpc import NotificationInternalServiceStub


class Mailbox:
    """Deliveries, newest first."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = NotificationInternalServiceStub(channel)

    async def all(self, to: str) -> list[pb.Delivery]:
        """All that went to an address or number."""
        answer = await self._stub.ListDeliveries(pb.ListDeliveriesRequest(to=to, limit=100), timeout=10)
        return list(answer.deliveries)

    async def code(self, to: str) -> str:
        """The last code that went to an address or number."""
        return (await self.all(to))[0].code
