"""What analytics asks of payment."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sampan.payment.v1 import bill_pb2
from sampan.payment.v1.payment_internal_service_pb2_grpc import PaymentInternalServiceStub
from services.analytics.domain import Figures, Known
from services.mesh.channels import Peer


class PaymentBills:
    """Implements rebuild.Bills by calls to payment."""

    def __init__(self, payment: Peer) -> None:
        self._stub = PaymentInternalServiceStub(payment.channel)

    async def after(self, user_id: UUID | None, limit: int) -> Sequence[Known]:
        """People with bills, from the one after `user_id` on. Raises Unavailable or DeadlineExceeded."""
        request = bill_pb2.ListBillTotalsRequest(after_user_id=str(user_id or ""), limit=limit)
        answer = await self._stub.ListBillTotals(request)
        return [
            Known(UUID(one.user_id), Figures(one.transactions, one.amount, one.paid, one.events))
            for one in answer.totals
        ]
