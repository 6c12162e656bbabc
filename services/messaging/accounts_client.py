"""Which people there are, asked of identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from sampan.identity.v1 import identity_internal_service_pb2 as pb
from sampan.identity.v1.identity_internal_service_pb2_grpc import IdentityInternalServiceStub
from services.mesh.channels import Peer
from services.messaging.errors import UserNotFound


class Accounts(Protocol):
    """Knows who has an account."""

    async def require(self, ids: Sequence[UUID]) -> None:
        """Raises UserNotFound when somebody has none."""
        ...


class AccountsClient:
    """Implements Accounts by calls to identity."""

    def __init__(self, identity: Peer) -> None:
        self._stub = IdentityInternalServiceStub(identity.channel)

    async def require(self, ids: Sequence[UUID]) -> None:
        """Raises UserNotFound, or Unavailable or DeadlineExceeded when identity cannot be asked."""
        wanted = {str(one) for one in ids}
        answer = await self._stub.ListAccounts(pb.ListAccountsRequest(ids=sorted(wanted)))
        if wanted - set(answer.ids):
            raise UserNotFound
