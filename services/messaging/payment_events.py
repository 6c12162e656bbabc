"""What messaging consumes of payment: who has sent money to somebody tells so in their direct dialog, once.

The message is written before the event counts as consumed. It is known by its id for ever, so whatever comes
between, or comes again, finds it there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sampan.payment.v1 import events_pb2
from services.mesh import consumer, ids
from services.mesh.consumer import Effect, Handler
from services.mesh.errors import Overloaded, Unavailable
from services.mesh.inbox import Received
from services.messaging.domain import Paid
from services.messaging.notices import NoticeService

CONTEXT = "payment"
TRANSFERS_SENT = "sampan.payment.transfers.sent"
_SEND = "send"
# Seconds that messages may take to be written; shorter than what an event may take.
_PATIENCE = 5.0


class PaymentEvents:
    """Handles the events of payment."""

    def __init__(self, notices: NoticeService) -> None:
        self._notices = notices

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """By subject."""
        return {TRANSFERS_SENT: self._sent}

    async def _sent(self, event: Received) -> Effect:
        paid, wrong = _paid(events_pb2.TransfersSent.FromString(event.payload))
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._notices.tell(paid)
        except (Overloaded, TimeoutError) as error:
            # It says nothing about the event, which must not be given up for it.
            raise Unavailable from error
        if wrong is not None:
            raise wrong
        return consumer.nothing


def _paid(event: events_pb2.TransfersSent) -> tuple[list[Paid], ValueError | None]:
    """The payments of an event, and what is wrong with one: that keeps no other from being told of."""
    found, wrong = [], None
    for told in event.transfers:
        ids_of = (told.transaction_id, told.sender_id, told.recipient_id)
        try:
            transaction, sender, recipient = map(ids.read, ids_of)
            found.append(Paid(transaction, _SEND, sender, recipient, told.amount, told.currency))
        except ValueError as error:
            wrong = error
    return found, wrong
