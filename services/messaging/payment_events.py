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
from services.messaging.channels import Notice, NoticeService
from services.messaging.domain import Paid

CONTEXT = "payment"
TRANSFERS_SENT = "sampan.payment.transfers.sent"
_SEND = "send"
# Seconds that a message may take to be written; shorter than what an event may take.
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
        told = events_pb2.TransfersSent.FromString(event.payload).transfers
        try:
            async with asyncio.timeout(_PATIENCE):
                done = await asyncio.gather(*map(self._post, told), return_exceptions=True)
            # All were tried: one that fails keeps no other from being written.
            for error in done:
                if isinstance(error, BaseException):
                    raise error
        except (Overloaded, TimeoutError) as error:
            # It says nothing about the event, which must not be given up for it.
            raise Unavailable from error
        return consumer.nothing

    async def _post(self, told: events_pb2.TransferSent) -> None:
        paid = Paid(
            ids.read(told.transaction_id),
            _SEND,
            ids.read(told.sender_id),
            ids.read(told.recipient_id),
            told.amount,
            told.currency,
        )
        await self._notices.post(Notice.of(paid))
