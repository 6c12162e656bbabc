"""Use cases of what services hold for people, under ids of their own: a saga can say each step again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Key
from services.payment import repository_holds
from services.payment.domain import Hold, HoldStatus, Payment
from services.payment.errors import HoldClosed, HoldExists, HoldExpired, HoldNotFound, WalletNotFound
from services.payment.hold_steps import HoldSteps, shown


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a service wants to hold: an amount of a person's wallet of a currency, for another person."""

    hold_id: UUID
    sender: UUID
    recipient: UUID
    amount: int
    currency: str

    def fits(self, hold: Hold, service: str) -> bool:
        """Whether a hold is this one."""
        said = (hold.caller, hold.sender, hold.recipient, hold.amount, hold.currency)
        return said == (service, self.sender, self.recipient, self.amount, self.currency)


class ServiceHolds:
    """Holds that a service makes and ends. Each is that service's own; people only see it."""

    def __init__(self, database: Database, idempotency: Idempotency, steps: HoldSteps) -> None:
        self._database = database
        self._idempotency = idempotency
        self._steps = steps

    async def place(self, service: str, wanted: Wanted, life: timedelta, key: Key | None = None) -> Hold:
        """Reserves money under an id of the service's choice, once.

        The same hold again is answered with the hold as it was made, under any `request_id`.
        Raises HoldClosed for what was voided, also before it came; HoldExpired; HoldExists for another hold
        with this id; and what a payment of it would.
        """
        async with self._database.transaction("place_hold") as connection:
            repeated = await self._idempotency.claim(connection, key) is not None
            if not repeated and not await self._made(connection, service, wanted, life):
                await _must_be_the_same(connection, service, wanted)
            return (await _hold(connection, service, wanted.hold_id)).as_made()

    async def _made(self, connection: AsyncConnection, service: str, wanted: Wanted, life: timedelta) -> bool:
        """Makes a hold; False when something has that id already."""
        if await repository_holds.is_taken(connection, wanted.hold_id):
            return False
        payment = await _payment(connection, wanted)
        return await self._steps.make(connection, wanted.hold_id, payment, life, service)

    async def settle(
        self,
        service: str,
        hold_id: UUID,
        amount: int,
        answer: Callable[[Hold, UUID], bytes],
        key: Key | None = None,
        *,
        final: bool,
    ) -> bytes:
        """Pays what is held, or a part.

        Returns what `answer` makes of the hold and the transaction's id, which is kept for repeated requests.

        Raises HoldNotFound, HoldClosed, HoldExpired, CaptureExceeded, and what posting raises.
        """
        async with self._database.transaction("settle_hold") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is not None:
                return known
            await repository_holds.lock_hold(connection, hold_id)
            hold = await _hold(connection, service, hold_id)
            transaction_id = await self._steps.capture(connection, hold, amount, service, final=final)
            answered = answer(await _hold(connection, service, hold_id), transaction_id)
            await self._idempotency.keep(connection, key, answered)
            return answered

    async def release(self, service: str, hold_id: UUID, key: Key | None = None) -> Hold | None:
        """Lets go of what is held yet; None when it is not there, and then it never will be.

        What is voided stays as it is, so a repeated request has the same answer.
        Raises HoldNotFound for somebody else's, HoldClosed, HoldExpired.
        """
        async with self._database.transaction("release_hold") as connection:
            repeated = await self._idempotency.claim(connection, key) is not None
            if not repeated and await repository_holds.bury_hold(connection, hold_id, service):
                await repository_holds.add_trail(connection, hold_id, "hold_voided", service)
            if await repository_holds.is_buried(connection, hold_id, service):
                return None
            if not repeated:
                await repository_holds.lock_hold(connection, hold_id)
                await self._steps.void(connection, await _hold(connection, service, hold_id), service)
            return await _hold(connection, service, hold_id)


async def _payment(connection: AsyncConnection, wanted: Wanted) -> Payment:
    """It as what its sender would want."""
    wallet = await repository_holds.wallet_for(connection, wanted.sender, wanted.currency)
    if wallet is None:
        raise WalletNotFound
    return Payment(wanted.sender, wallet, wanted.recipient, wanted.amount, wanted.currency, "")


async def _must_be_the_same(connection: AsyncConnection, service: str, wanted: Wanted) -> None:
    """What was there before must be this hold, and not be over."""
    if await repository_holds.is_buried(connection, wanted.hold_id, service):
        raise HoldClosed
    row = await repository_holds.hold(connection, wanted.hold_id)
    hold = None if row is None else shown(row)
    if hold is None or not wanted.fits(hold, service):
        raise HoldExists
    if hold.status is HoldStatus.EXPIRED:
        raise HoldExpired
    if hold.status is HoldStatus.VOIDED:
        raise HoldClosed


async def _hold(connection: AsyncConnection, service: str, hold_id: UUID) -> Hold:
    row = await repository_holds.hold(connection, hold_id)
    hold = None if row is None else shown(row)
    if hold is None or hold.caller != service:
        raise HoldNotFound
    return hold
