"""What payment publishes. Events carry ids and amounts, never texts."""

from __future__ import annotations

from uuid import UUID

from services.mesh import trace
from services.mesh.clock import Clock
from services.payment import encoding
from services.payment.domain import Payment, Told

TRANSFERS_SENT = "sampan.payment.transfers.sent"


class Events:
    """Makes events that the posting function writes into the outbox with what they tell."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def sent(self, transaction_id: UUID, sender: str, payment: Payment) -> Told:
        """Somebody has sent money to somebody. `sender` as a text, which its caller has already.

        Joined to those of others, the bytes of such an event are that of all of them: what is committed
        together is one event, since a row, a publish and an acknowledgement for each cost more than posting.
        """
        payload = encoding.transfers_sent(transaction_id, sender, payment, int(self._clock()))
        return Told(TRANSFERS_SENT, payload, trace.traceparent.get())
