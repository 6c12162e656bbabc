"""What notification asks of identity."""

from __future__ import annotations

from uuid import UUID

from sampan.identity.v1 import identity_internal_service_pb2 as pb
from sampan.identity.v1.identity_internal_service_pb2_grpc import IdentityInternalServiceStub
from services.mesh.channels import Peer
from services.mesh.errors import NotFound
from services.notification.domain import Channel
from services.notification.events import Contact


class IdentityContacts:
    """Implements events.Contacts by calls to identity."""

    def __init__(self, identity: Peer) -> None:
        self._stub = IdentityInternalServiceStub(identity.channel)

    async def of_session(self, account_id: UUID, session_id: UUID) -> Contact | None:
        """Where the person of a session can be reached, or None. Raises Unavailable."""
        request = pb.GetContactRequest(account_id=str(account_id), session_id=str(session_id))
        try:
            answer = await self._stub.GetContact(request)
        except NotFound:
            return None
        return Contact(Channel(answer.channel), answer.to, answer.device) if answer.to else None
