"""Use cases of operators: money that came, but not as it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database, constraint
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.metrics import Gauge
from services.payment import repository_crediting as ledger
from services.payment import repository_reviewing as repository
from services.payment import repository_topups
from services.payment.domain_topups import By, Decision, Held, Status
from services.payment.errors import (
    AccountSuspended,
    CurrencyMismatch,
    PaymentNotHeld,
    PaymentResolved,
    WalletNotFound,
)

_DEFAULT = 100
_COUNTED = 10_000


class ReviewService:
    """Shows what is held, and does what an operator decides."""

    def __init__(self, database: Database, idempotency: Idempotency) -> None:
        self._database = database
        self._idempotency = idempotency

    async def waiting(self, limit: int) -> Sequence[Held]:
        """What nobody has decided about, what waits longest first."""
        async with self._database.reading() as connection:
            return await repository.waiting(connection, limit or _DEFAULT)

    async def observe(self) -> list[Gauge]:
        """How much waits for a decision. Raises Unavailable."""
        async with self._database.reading() as connection:
            count, seconds = await repository.backlog(connection, _COUNTED)
        told = f"Payments that are held for review; counted up to {_COUNTED}."
        return [
            Gauge("sampan_payments_held", told, count),
            Gauge("sampan_payments_held_seconds", "For how long the first of them is.", seconds),
        ]

    async def resolve(
        self,
        provider: str,
        payment_id: str,
        decision: Decision,
        wallet_id: UUID | None = None,
        key: Key | None = None,
    ) -> UUID:
        """Credits a wallet, by default that of the top-up, or gives back; returns the transfer.

        Raises PaymentNotHeld, PaymentResolved, WalletNotFound, CurrencyMismatch or AccountSuspended.
        """
        try:
            async with self._database.transaction("resolve_payment") as connection:
                known = await self._idempotency.claim(connection, key)
                if known is not None:
                    return UUID(bytes=known)
                held = await repository.one(connection, provider, payment_id)
                if held is None:
                    raise PaymentNotHeld
                transfer_id = await self._decided(connection, held, decision, wallet_id)
                await self._idempotency.keep(connection, key, transfer_id.bytes)
                return transfer_id
        except IntegrityError as error:
            if constraint(error) == "resolutions_pkey":
                raise PaymentResolved from None
            raise

    async def _decided(
        self, connection: AsyncConnection, held: Held, decision: Decision, wallet_id: UUID | None
    ) -> UUID:
        """The top-up's row is locked first, as everywhere."""
        top_up = (
            await repository_topups.one(connection, held.top_up_id, lock=True) if held.top_up_id else None
        )
        transfer_id = uuid7()
        credited = await self._wallet(connection, held, wallet_id) if decision is Decision.CREDIT else None
        await repository.decide(connection, held, decision, credited, transfer_id)
        await ledger.resolve(connection, transfer_id, held.paid, wallet_id=credited, top_up_id=held.top_up_id)
        # Not for money that came besides: then the top-up is completed.
        if top_up and top_up.status is Status.REVIEW and top_up.payment_id == held.paid.payment_id:
            then = Status.COMPLETED if credited else Status.RETURNED
            look_at = top_up.expires_at
            await repository_topups.move(connection, top_up, then, By.OPERATOR, look_at, review_reason="")
        return transfer_id

    async def _wallet(self, connection: AsyncConnection, held: Held, wallet_id: UUID | None) -> UUID:
        wanted = wallet_id or held.wallet_id
        wallet = await repository_topups.wallet(connection, wanted) if wanted else None
        if wallet is None:
            raise WalletNotFound
        if wallet.currency != held.paid.currency:
            raise CurrencyMismatch
        if wallet.suspended:
            raise AccountSuspended
        found: UUID = wallet.id
        return found
