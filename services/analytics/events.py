"""What analytics consumes: bills that were made and paid."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sampan.payment.v1 import events_pb2 as pb
from services.analytics.domain import Fact
from services.analytics.service import StatisticsService
from services.mesh.consumer import Effect
from services.mesh.inbox import Received

CONTEXT = "payment"
CREATED = "sampan.payment.transaction.created"
PAID = "sampan.payment.transaction.paid"


class BillEvents:
    """Handlers by subject. Sums need no order, so an event that comes late does no harm."""

    def __init__(self, service: StatisticsService) -> None:
        self._service = service
        self.handlers = {CREATED: self._created, PAID: self._paid}

    async def _created(self, event: Received) -> Effect:
        told = pb.TransactionCreated.FromString(event.payload)
        return self._adding(Fact(UUID(told.user_id), event.version, transactions=1, amount=told.amount))

    async def _paid(self, event: Received) -> Effect:
        told = pb.TransactionPaid.FromString(event.payload)
        return self._adding(Fact(UUID(told.user_id), event.version, paid=told.transactions_paid))

    def _adding(self, fact: Fact) -> Effect:
        async def add(connection: AsyncConnection) -> None:
            await self._service.add(connection, fact)

        return add
