"""What notification asks of identity."""

from __future__ import annotations

from uuid import UUID

import grpc

from sampan.identity.v1 import identity_internal_service_pb2 as pb
from sampan.identity.v1.identity_internal_service_pb2_grpc import IdentityInternalServiceStub
from services.mesh.channels import is_not_found, unavailable
from services.notification.domain import Channel
from services.notification.events import Contact

_TIMEOUT = 3.0


class IdentityContacts:
    """Implements events.Contacts over a channel to identity."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = IdentityInternalServiceStub(channel)

    async def of_session(self, account_id: UUID, session_id: UUID) -> Contact | None:
        """Where the person of a session can be reached, or None. Raises Unavailable."""
        request = pb.GetContactRequest(account_id=str(account_id), session_id=str(session_id))
        with unavailable():
            try:
                answer = await self._stub.GetContact(request, timeout=_TIMEOUT)
            except grpc.RpcError as error:
                if is_not_found(error):
                    return None
                raise
        return Contact(Channel(answer.channel), answer.to, answer.device) if answer.to else None
