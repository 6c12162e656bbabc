"""What payment publishes of bills, in the transaction of what it tells and under the lock of its person."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sampan.payment.v1 import events_pb2 as pb
from services.mesh.outbox import Event, Outbox
from services.payment.domain_bills import Bill

CREATED = "sampan.payment.transaction.created"
PAID = "sampan.payment.transaction.paid"


class BillEvents:
    """Writes the events of bills."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def created(self, connection: AsyncConnection, bill: Bill, version: int) -> None:
        """Somebody has a new bill."""
        told = pb.TransactionCreated(
            transaction_id=str(bill.id),
            user_id=str(bill.user_id),
            amount=bill.amount,
            description=bill.description,
        )
        told.timestamp.FromDatetime(bill.created_at)
        await self._outbox.add(connection, Event(CREATED, bill.user_id, version, told))

    async def paid(
        self, connection: AsyncConnection, user_id: UUID, bills: int, at: datetime, version: int
    ) -> None:
        """Somebody has paid so many."""
        told = pb.TransactionPaid(user_id=str(user_id), transactions_paid=bills)
        told.timestamp.FromDatetime(at)
        await self._outbox.add(connection, Event(PAID, user_id, version, told))
