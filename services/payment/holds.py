"""Use cases of people's holds: money that is reserved, then captured, voided, or let go of in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from services.mesh.database import Database
from services.mesh.errors import OutcomeUnknown, PermissionDenied, Unavailable
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.paging import DEFAULT_LIMIT, Page, PageTokens
from services.payment import repository_holds
from services.payment.domain import Hold, HoldStatus, Payment, Transaction
from services.payment.errors import HoldNotFound
from services.payment.hold_steps import HoldSteps, shown
from services.payment.reading import ReadingService


class HoldService:
    """Holds of people. What services hold for them they see, and leave to the service."""

    def __init__(
        self,
        database: Database,
        idempotency: Idempotency,
        steps: HoldSteps,
        reading: ReadingService,
        page_key: bytes,
    ) -> None:
        self._database = database
        self._idempotency = idempotency
        self._steps = steps
        self._reading = reading
        self._page_key = page_key

    async def create(self, wanted: Payment, life: timedelta, key: Key | None = None) -> Hold:
        """Reserves money. Raises what a payment of it would.

        A repeated request is answered with the hold as it was made.
        """
        async with self._database.transaction("create_hold") as connection:
            known = await self._idempotency.claim(connection, key)
            hold_id = UUID(bytes=known) if known else uuid7()
            if known is None:
                await self._steps.make(connection, hold_id, wanted, life, str(wanted.sender))
                await self._idempotency.keep(connection, key, hold_id.bytes)
            return (await _hold(connection, wanted.sender, hold_id)).as_made()

    async def get(self, person: UUID, hold_id: UUID) -> Hold:
        """A hold that a person pays or is paid by. Raises HoldNotFound."""
        async with self._database.reading() as connection:
            return await _hold(connection, person, hold_id)

    async def list(self, person: UUID, status: str, limit: int, page_token: str) -> Page[Hold]:
        """Holds of a person, newest first. Raises PageTokenInvalid."""
        tokens = PageTokens(self._page_key, f"holds:{person}:{status}")
        position = tokens.read(page_token)
        before = UUID(position[0]) if position else None
        limit = limit or DEFAULT_LIMIT
        async with self._database.reading() as connection:
            rows = await repository_holds.holds_of(connection, person, status, before, limit + 1)
        return tokens.page([shown(row) for row in rows], limit, lambda one: (str(one.id),))

    async def capture(
        self,
        person: UUID,
        hold_id: UUID,
        amount: int,
        answer: Callable[[Hold, Transaction], bytes],
        key: Key | None = None,
        *,
        final: bool,
    ) -> bytes:
        """Pays what is held, or a part.

        Returns what `answer` makes of the hold and the transaction, which is kept for repeated requests.

        Raises HoldNotFound, PermissionDenied, HoldClosed, HoldExpired, CaptureExceeded, and what posting
        raises.
        """
        async with self._database.transaction("capture_hold") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is not None:
                return known
            hold = await _locked(connection, person, hold_id)
            transaction_id = await self._steps.capture(connection, hold, amount, str(person), final=final)
            paid = await self._reading.get_within(connection, person, transaction_id)
            answered = answer(await _hold(connection, person, hold_id), paid)
            await self._idempotency.keep(connection, key, answered)
            return answered

    async def void(self, person: UUID, hold_id: UUID, key: Key | None = None) -> Hold:
        """Lets go of what is held yet. Raises HoldNotFound, PermissionDenied for who pays, HoldClosed.

        What is voided stays as it is, so a repeated request has the same answer.
        """
        async with self._database.transaction("void_hold") as connection:
            if await self._idempotency.claim(connection, key) is None:
                hold = await _locked(connection, person, hold_id)
                if person != hold.recipient:
                    raise PermissionDenied
                await self._steps.void(connection, hold, str(person))
            return await _hold(connection, person, hold_id)

    async def expire_one(self) -> bool:
        """Lets go of one hold whose time is over; False when there is none. Raises Unavailable."""
        async with self._database.transaction("expire_hold") as connection:
            row = await repository_holds.lock_expired_hold(connection)
            if row is None:
                return False
            await repository_holds.close_hold(connection, row.id, HoldStatus.EXPIRED)
            rest = row.amount - row.captured
            await repository_holds.add_trail(connection, row.id, "hold_expired", "payment", rest)
            return True


class HoldSweeper:
    """Has holds expire, as background work, looking every `interval` seconds."""

    def __init__(self, holds: HoldService, log: FilteringBoundLogger, *, interval: float) -> None:
        self._holds = holds
        self._log = log
        self._interval = interval

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                while await self._holds.expire_one():
                    pass
            except (Unavailable, OutcomeUnknown):
                self._log.warning("holds.sweep_postponed")
            await asyncio.sleep(self._interval)


async def _locked(connection: AsyncConnection, person: UUID, hold_id: UUID) -> Hold:
    """A hold that a person may do something with."""
    await repository_holds.lock_hold(connection, hold_id)
    hold = await _hold(connection, person, hold_id)
    if hold.is_of_a_service:
        raise PermissionDenied
    return hold


async def _hold(connection: AsyncConnection, person: UUID, hold_id: UUID) -> Hold:
    row = await repository_holds.hold(connection, hold_id)
    hold = None if row is None else shown(row)
    if hold is None or not hold.concerns(person):
        raise HoldNotFound
    return hold
