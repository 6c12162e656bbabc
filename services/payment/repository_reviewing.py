"""SQL of money that is held for review, and of what was decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, and_, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payment.domain_topups import Decision, Held, Paid, Why
from services.payment.models import provider_payments, resolutions, top_ups

_of_payment = and_(
    resolutions.c.provider == provider_payments.c.provider,
    resolutions.c.payment_id == provider_payments.c.payment_id,
)


def _held() -> Select[Any]:
    joined = provider_payments.outerjoin(top_ups, top_ups.c.id == provider_payments.c.top_up_id)
    return (
        select(provider_payments, top_ups.c.user_id, top_ups.c.wallet_id)
        .select_from(joined)
        .where(provider_payments.c.held_because != "")
    )


async def waiting(connection: AsyncConnection, limit: int) -> Sequence[Held]:
    """What nobody has decided about, what waits longest first."""
    decided = select(resolutions.c.provider).where(_of_payment).exists()
    found = _held().where(~decided).order_by(provider_payments.c.received_at).limit(limit)
    return [_shown(row) for row in await connection.execute(found)]


async def backlog(connection: AsyncConnection, most: int) -> tuple[int, float]:
    """How many wait, counted up to `most`, and for how many seconds the first of them has."""
    decided = select(resolutions.c.provider).where(_of_payment).exists()
    waits = (
        select(provider_payments.c.received_at)
        .where(provider_payments.c.held_because != "", ~decided)
        .order_by(provider_payments.c.received_at)
        .limit(most)
        .subquery()
    )
    age = func.extract("epoch", func.now() - func.min(waits.c.received_at))
    count, seconds = (await connection.execute(select(func.count(), age).select_from(waits))).one()
    return count, float(seconds or 0.0)


async def one(connection: AsyncConnection, provider: str, payment_id: str) -> Held | None:
    """Money that is or was held."""
    found = _held().where(
        provider_payments.c.provider == provider, provider_payments.c.payment_id == payment_id
    )
    row = (await connection.execute(found)).one_or_none()
    return _shown(row) if row is not None else None


async def resolution(connection: AsyncConnection, provider: str, payment_id: str) -> Row[Any] | None:
    """What was decided about it."""
    found = select(resolutions).where(
        resolutions.c.provider == provider, resolutions.c.payment_id == payment_id
    )
    return (await connection.execute(found)).one_or_none()


async def decide(
    connection: AsyncConnection, held: Held, decision: Decision, wallet_id: UUID | None, transfer_id: UUID
) -> None:
    """Writes a decision down. A second one breaks `resolutions_pkey`."""
    await connection.execute(
        insert(resolutions).values(
            provider=held.paid.provider,
            payment_id=held.paid.payment_id,
            decision=decision.value,
            wallet_id=wallet_id,
            transfer_id=transfer_id,
        )
    )


def _shown(row: Row[Any]) -> Held:
    paid = Paid(
        row.provider, row.payment_id, row.method, row.reference, row.amount, row.currency, row.paid_at
    )
    return Held(
        paid=paid,
        why=Why(row.held_because),
        top_up_id=row.top_up_id,
        user_id=row.user_id,
        wallet_id=row.wallet_id,
        received_at=row.received_at,
    )
