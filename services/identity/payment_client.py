"""Tells payment how people stand."""

from __future__ import annotations

from sampan.payment.v1.payment_internal_service_pb2 import SetStandingRequest
from sampan.payment.v1.payment_internal_service_pb2_grpc import PaymentInternalServiceStub
from services.identity.domain import AccountStatus, Standing
from services.mesh.channels import Peer

# Payment has this many seconds for one person.
_PATIENCE = 2.0


class PaymentTeller:
    """Implements standings.Teller by calls to payment."""

    def __init__(self, payment: Peer) -> None:
        self._stub = PaymentInternalServiceStub(payment.channel)

    async def tell(self, standing: Standing) -> None:
        """Tells of one person; payment keeps what is newest. Raises SampanError when it does not answer."""
        request = SetStandingRequest(
            user_id=str(standing.account_id),
            kyc_tier=standing.kyc_tier,
            suspended=standing.status is AccountStatus.SUSPENDED,
            version=standing.version,
        )
        await self._stub.SetStanding(request, timeout=_PATIENCE)
