"""What presence asks of messaging."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sampan.messaging.v1 import messaging_internal_service_pb2 as pb
from sampan.messaging.v1.messaging_internal_service_pb2_grpc import MessagingInternalServiceStub
from services.mesh.channels import Peer
from services.mesh.errors import DeadlineExceeded, Unavailable


class MessagingContacts:
    """Implements service.Contacts by calls to messaging, which may take `timeout` seconds."""

    def __init__(self, messaging: Peer, timeout: float) -> None:
        self._stub = MessagingInternalServiceStub(messaging.channel)
        self._timeout = timeout

    async def among(self, user_id: UUID, others: Collection[UUID]) -> set[UUID]:
        """Those who share a dialog with a person and have not blocked them. Raises Unavailable."""
        request = pb.FilterContactsRequest(user_id=str(user_id), others=[str(other) for other in others])
        try:
            answer = await self._stub.FilterContacts(request, timeout=self._timeout)
        except DeadlineExceeded as error:
            raise Unavailable from error
        return {UUID(found) for found in answer.user_ids}.intersection(others)
