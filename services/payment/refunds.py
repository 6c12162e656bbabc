"""Use case of giving money back, all of it or in parts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database
from services.mesh.errors import PermissionDenied
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.payment import repository_holds, repository_reading
from services.payment.domain import Draft, Kind
from services.payment.errors import NotRefundable, RefundExceeded, TransactionNotFound
from services.payment.ledger import Ledger

_REFUNDABLE = (Kind.SEND, Kind.CAPTURE)


class RefundService:
    """Refunds of payments and captures, by who was paid."""

    def __init__(self, database: Database, idempotency: Idempotency, ledger: Ledger) -> None:
        self._database = database
        self._idempotency = idempotency
        self._ledger = ledger

    async def refund(self, person: UUID, transaction_id: UUID, amount: int, key: Key | None = None) -> UUID:
        """Gives back an amount, or all that is left; returns the transaction that does.

        Raises TransactionNotFound, PermissionDenied for who paid, NotRefundable, RefundExceeded, and what
        posting raises.
        """
        async with self._database.transaction("refund") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is not None:
                return UUID(bytes=known)
            paid = await _paid(connection, person, transaction_id)
            # Whoever refunds the same payment at the same time waits here, and counts this one.
            await repository_holds.lock_wallets(connection, (paid.debit_account, paid.credit_account))
            left = paid.amount - await repository_reading.refunded(connection, transaction_id)
            amount = amount or left
            if not 0 < amount <= left:
                raise RefundExceeded
            draft = Draft(
                id=uuid7(),
                kind=Kind.REFUND,
                caller=str(person),
                debit=paid.credit_account,
                owner=person,
                credit=paid.debit_account,
                amount=amount,
                currency=paid.currency,
                refers_to=transaction_id,
            )
            posted = await self._ledger.post_within(connection, draft)
            await self._idempotency.keep(connection, key, posted.id.bytes)
            return posted.id


async def _paid(connection: AsyncConnection, person: UUID, transaction_id: UUID) -> Row[Any]:
    paid = await repository_holds.transfer(connection, transaction_id)
    if paid is None or person not in {paid.sender, paid.recipient}:
        raise TransactionNotFound
    if paid.kind not in _REFUNDABLE:
        raise NotRefundable
    if person != paid.recipient:
        raise PermissionDenied
    return paid
