"""proto <-> domain for sampan.payment.v1.PaymentInternalService."""

from __future__ import annotations

from uuid import UUID

from sampan.payment.v1 import payment_internal_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.payment.service import WalletService


class PaymentInternalServicer:
    """Implements sampan.payment.v1.PaymentInternalService."""

    def __init__(self, wallets: WalletService, idempotency: Idempotency) -> None:
        self._wallets = wallets
        self._idempotency = idempotency

    async def SetStanding(self, request: pb.SetStandingRequest, call: Call) -> pb.SetStandingResponse:
        key = await self._idempotency.key(request, call)
        user_id, tier, version = UUID(request.user_id), request.kyc_tier, request.version
        await self._wallets.set_standing(user_id, tier, version, suspended=request.suspended, key=key)
        return pb.SetStandingResponse()
