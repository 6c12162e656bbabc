"""The sandbox bank: plays the customer who pays a QR, and calls back as a bank would, or as badly."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import httpx

from services.mesh.ids import uuid7
from services.payment.providers.journal import Journal
from services.payment.providers.provider import Event, Notice
from services.payment.providers.sandbox import NAME, Callback
from services.payment.providers.signing import Signer
from services.payment.qr import payload

PATH = f"/v1/providers/{NAME}/callback"
# Waits between tries to deliver a callback, in seconds: they double from the first to the second.
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 2.0


class Refused(Exception):
    """The bank did not take the money; its text says why."""


@dataclass(frozen=True, slots=True)
class How:
    """How a payment goes. `amount` in minor units in place of the QR's; `delay` in seconds.

    `repeat` callbacks more of each kind; `reorder`: that it is done comes before that it has started;
    `time_out`: that it is done never comes; `decline`: the customer thinks better of it; `again`: the same
    QR may be paid once more. `patience` is how long to try to deliver a callback, in seconds.
    """

    amount: int | None = None
    delay: float = 0.0
    repeat: int = 0
    reorder: bool = False
    time_out: bool = False
    decline: bool = False
    again: bool = False
    patience: float = 30.0


@dataclass(slots=True)
class Receipt:
    """What became of a payment that the bank has taken, and what its callbacks were answered."""

    notice: Notice
    callbacks: list[dict[str, Any]] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        said = self.notice
        return {
            "payment_id": said.payment_id,
            "method": said.method,
            "reference": said.reference,
            "amount": str(said.amount),
            "currency": said.currency,
            "callbacks": self.callbacks,
        }


class Bank:
    """Signs with the home's secret, keeps what it took in the journal, and calls the edge by `client`."""

    def __init__(self, signer: Signer, journal: Journal, client: httpx.AsyncClient) -> None:
        self._signer = signer
        self._journal = journal
        self._client = client

    async def pay(self, text: str, how: How) -> Receipt:
        """Pays a QR: when this returns, the bank has the money. Raises Refused, or QrInvalid."""
        asked = payload.parse(text)
        if self._journal.of(asked.reference) and not how.again:
            raise Refused("this QR is paid already")
        said = Notice(
            event=Event.STARTED,
            payment_id=str(uuid7()),
            method=asked.method,
            reference=asked.reference,
            amount=how.amount or asked.amount,
            currency=asked.currency,
            at=_now(),
        )
        receipt = Receipt(said)
        if not how.reorder:
            await self._ask(receipt, said, how)
        done = dataclasses.replace(said, event=Event.COMPLETED, at=_now())
        self._journal.take(done)
        await asyncio.sleep(how.delay)
        if not how.time_out:
            await self._tell(receipt, done, how)
        if how.reorder:
            await self._tell(receipt, said, how)
        return receipt

    async def _ask(self, receipt: Receipt, said: Notice, how: How) -> None:
        """Whether the money shall be taken: payment may say no, and so may the customer."""
        await self._tell(receipt, said, how)
        last = receipt.callbacks[-1]
        if last["status"] != HTTPStatus.OK:
            raise Refused(f"the payee refuses it: {last['reason'] or last['status']}")
        if how.decline:
            await self._tell(receipt, dataclasses.replace(said, event=Event.FAILED, at=_now()), how)
            raise Refused("the customer declined")

    async def _tell(self, receipt: Receipt, said: Notice, how: How) -> None:
        for _ in range(1 + how.repeat):
            receipt.callbacks.append(await self._deliver(said, how.patience))

    async def _deliver(self, said: Notice, patience: float) -> dict[str, Any]:
        """Tries until there is an answer that says yes or no, or patience has ended."""
        answer: dict[str, Any] = {}
        async for _ in _tries(patience):
            answer = await self._call(said)
            if 0 < answer["status"] < HTTPStatus.INTERNAL_SERVER_ERROR:
                break
        return answer

    async def _call(self, said: Notice) -> dict[str, Any]:
        body = Callback.of(said).model_dump_json().encode()
        headers = {"content-type": "application/json", **self._signer.headers(body, int(time.time()))}
        shown: dict[str, Any] = {"event": said.event.value, "status": 0, "outcome": "", "reason": ""}
        try:
            answer = await self._client.post(PATH, content=body, headers=headers)
        except httpx.TransportError as error:
            return shown | {"reason": type(error).__name__}
        told = _json(answer)
        return shown | {
            "status": answer.status_code,
            "outcome": str(told.get("outcome", "")),
            "reason": str(told.get("reason", "")),
        }


async def _tries(patience: float) -> AsyncIterator[None]:
    wait, ends = _FIRST_WAIT, time.monotonic() + patience
    yield
    while time.monotonic() + wait < ends:
        await asyncio.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT)
        yield


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        told = answer.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _now() -> datetime:
    return datetime.now(UTC)
