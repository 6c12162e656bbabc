"""The sandbox bank as payment sees it: signed JSON, and a journal to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from services.mesh.clock import Clock
from services.mesh.errors import Unavailable
from services.payment.errors import CallbackMalformed
from services.payment.providers.journal import Journal
from services.payment.providers.provider import Event, Notice
from services.payment.providers.signing import SIGNATURE, TIMESTAMP, Signer, require_fresh
from services.payment.qr.payees import SANDBOX
from services.payment.qr.rails import Payee

NAME = "sandbox"


class Callback(BaseModel):
    """The body of a callback."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    event: Literal["payment.started", "payment.completed", "payment.failed"]
    payment_id: str = Field(pattern=r"^[!-~]{1,64}$")
    method: str = Field(pattern=r"^[a-z]{1,16}$")
    reference: str = Field(pattern=r"^[0-9A-Z]{1,25}$")
    # Minor units. No fraction, no text: money is not guessed. More than this nobody has.
    amount: int = Field(strict=True, gt=0, le=10**15)
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    # When it happened, at the bank.
    at: AwareDatetime

    @classmethod
    def of(cls, notice: Notice) -> Callback:
        """What says a notice."""
        return cls(
            event=notice.event.value,
            payment_id=notice.payment_id,
            method=notice.method,
            reference=notice.reference,
            amount=notice.amount,
            currency=notice.currency,
            at=notice.at,
        )

    def notice(self) -> Notice:
        """What it says."""
        return Notice(
            Event(self.event),
            self.payment_id,
            self.method,
            self.reference,
            self.amount,
            self.currency,
            self.at,
        )


class SandboxProvider:
    """Takes all six methods. `tolerance` in seconds is how old a callback may be."""

    name = NAME

    def __init__(self, secret: bytes, journal: Journal, clock: Clock, *, tolerance: float) -> None:
        self._signer = Signer(secret)
        self._journal = journal
        self._clock = clock
        self._tolerance = tolerance

    @property
    def payees(self) -> Mapping[str, Payee]:
        """Accounts of nobody."""
        return SANDBOX

    def read(self, header: Callable[[str], str], body: bytes) -> Notice:
        """See Provider. Who forges learns no more than that: the age is looked at afterwards."""
        timestamp = header(TIMESTAMP)
        self._signer.check(timestamp, header(SIGNATURE), body)
        require_fresh(timestamp, self._clock, self._tolerance)
        try:
            return Callback.model_validate_json(body).notice()
        except ValidationError:
            raise CallbackMalformed from None

    async def ask(self, reference: str) -> list[Notice]:
        """See Provider."""
        try:
            return await asyncio.to_thread(self._journal.of, reference)
        except (OSError, ValueError):
            raise Unavailable from None
