"""What payment wants of a bank: payees for QRs, callbacks that can be believed, and an answer when asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from services.payment.qr.rails import Payee


class Event(StrEnum):
    """What happens to a customer's payment, in this order, though callbacks may come in any."""

    # The customer has said yes: the bank asks whether it shall take the money.
    STARTED = "payment.started"
    # The bank has the money, and it is ours.
    COMPLETED = "payment.completed"
    # The customer or the bank changed its mind before.
    FAILED = "payment.failed"


@dataclass(frozen=True, slots=True)
class Notice:
    """What a provider says of one payment: `payment_id` is its own id, `amount` in minor units."""

    event: Event
    payment_id: str
    method: str
    reference: str
    amount: int
    currency: str
    at: datetime


class Provider(Protocol):
    """A bank, or somebody who stands before many."""

    @property
    def name(self) -> str:
        """As in the path of its callbacks."""
        ...

    @property
    def payees(self) -> Mapping[str, Payee]:
        """Who is paid, by method; what it does not take is not there."""
        ...

    def read(self, header: Callable[[str], str], body: bytes) -> Notice:
        """A callback that is the provider's own and fresh; `header` gives a header's text, or nothing.

        Raises SignatureInvalid, CallbackStale or CallbackMalformed.
        """
        ...

    async def ask(self, reference: str) -> list[Notice]:
        """The payments that it has for a reference; none is an answer, too.

        Raises Unavailable when it does not know now.
        """
        ...
