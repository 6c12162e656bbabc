"""Use cases of bills: make, show, list, pay. Transactions open here."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.clock import Clock, moment
from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.paging import DEFAULT_LIMIT, Page, PageTokens
from services.mesh.personal import PersonKey, PersonKeys
from services.payment import repository, repository_bills
from services.payment.domain_bills import Bill, BillStatus, BillTotals
from services.payment.errors import BillCapExceeded, BillNotFound
from services.payment.events_bills import BillEvents

_DEFAULT_TOTALS = 100
_COUNT_BYTES = 8


class BillService:
    """Bills. A person's pending ones come to `cap` at most, in minor units of `currency`."""

    def __init__(
        self,
        database: Database,
        idempotency: Idempotency,
        person_keys: PersonKeys,
        events: BillEvents,
        page_tokens: PageTokens,
        clock: Clock,
        *,
        currency: str,
        cap: int,
    ) -> None:
        self._database = database
        self._idempotency = idempotency
        self._person_keys = person_keys
        self._events = events
        self._page_tokens = page_tokens
        self._clock = clock
        self._currency = currency
        self._cap = cap

    async def create(self, user_id: UUID, amount: int, description: str, key: Key | None = None) -> Bill:
        """Makes a bill. Raises BillCapExceeded.

        A repeated request is answered with the bill as it was made.
        """
        async with self._database.transaction("create_bill") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is not None:
                made = self._shown(await repository_bills.one(connection, user_id, UUID(bytes=known)))
                return made.as_made(description)
            version = await repository_bills.add(connection, user_id, amount, self._cap)
            if version is None:
                raise BillCapExceeded
            bill_id = uuid7()
            sealed = await self._sealed(connection, user_id, bill_id, description)
            await repository_bills.insert(connection, bill_id, user_id, amount, self._currency, sealed)
            made = self._shown(await repository_bills.one(connection, user_id, bill_id))
            await self._events.created(connection, made, version)
            await self._idempotency.keep(connection, key, bill_id.bytes)
        return made

    async def get(self, user_id: UUID, bill_id: UUID) -> Bill:
        """One of a person's bills. Raises BillNotFound."""
        async with self._database.reading() as connection:
            return self._shown(await repository_bills.one(connection, user_id, bill_id))

    async def pay(self, user_id: UUID, key: Key | None = None) -> int:
        """Marks all pending bills of a person as paid; returns how many."""
        async with self._database.transaction("pay_bills") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is not None:
                return int.from_bytes(known, "big")
            bills, version = await repository_bills.pay(connection, user_id)
            if bills:
                await self._events.paid(connection, user_id, bills, moment(self._clock()), version)
            await self._idempotency.keep(connection, key, bills.to_bytes(_COUNT_BYTES, "big"))
        return bills

    async def totals(self, after: UUID | None, limit: int) -> list[BillTotals]:
        """What people's bills come to, in the order of their ids."""
        async with self._database.reading() as connection:
            return await repository_bills.totals(connection, after, limit or _DEFAULT_TOTALS)

    async def list(self, user_id: UUID, status: BillStatus | None, limit: int, page_token: str) -> Page[Bill]:
        """A person's bills, the newest first. Raises PageTokenInvalid."""
        position = self._page_tokens.read(page_token)
        limit = limit or DEFAULT_LIMIT
        async with self._database.reading() as connection:
            rows = await repository_bills.page(
                connection, user_id, UUID(position[0]) if position else None, status, limit + 1
            )
        found = [self._shown(row) for row in rows]
        return self._page_tokens.page(found, limit, lambda bill: (str(bill.id),))

    async def _sealed(
        self, connection: AsyncConnection, user_id: UUID, bill_id: UUID, description: str
    ) -> bytes | None:
        if not description:
            return None
        # There is a key at the latest from here on, of whoever came first.
        await repository.keep_person_key(connection, user_id, self._person_keys.new(user_id).wrapped)
        wrapped = await repository_bills.person_key(connection, user_id)
        person = self._person_keys.find(user_id, wrapped)
        return None if person is None else person.seal(description, _place(bill_id))

    def _shown(self, row: Row[Any] | None) -> Bill:
        if row is None:
            raise BillNotFound
        person = self._person_keys.find(row.user_id, row.wrapped)
        return Bill(
            id=row.id,
            user_id=row.user_id,
            amount=row.amount,
            currency=row.currency,
            description=_clear(person, row),
            status=BillStatus.PENDING if row.paid_at is None else BillStatus.PAID,
            created_at=row.created_at,
            paid_at=row.paid_at,
        )


def _clear(person: PersonKey | None, row: Row[Any]) -> str:
    """What a bill is for. Without the person's key it was erased."""
    if person is None or row.description is None:
        return ""
    return person.unseal(row.description, _place(row.id))


def _place(bill_id: UUID) -> str:
    return f"bills.description:{bill_id}"
