"""SQL of top-ups and of the money that came for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payment.domain_topups import EVENT, OPEN, By, Change, Paid, Status, TopUp, Why
from services.payment.models import accounts, provider_payments, top_ups, trail

_open = top_ups.c.status.in_(OPEN)


async def wallet(connection: AsyncConnection, wallet_id: UUID) -> Row[Any] | None:
    """A wallet as top-ups need to know it."""
    found = select(accounts).where(accounts.c.id == wallet_id, accounts.c.kind == "wallet")
    return (await connection.execute(found)).one_or_none()


async def add(connection: AsyncConnection, made: TopUp, look_at: datetime) -> None:
    """A new one."""
    await connection.execute(
        insert(top_ups).values(
            id=made.id,
            user_id=made.user_id,
            wallet_id=made.wallet_id,
            provider=made.provider,
            method=made.method,
            amount=made.amount,
            currency=made.currency,
            reference=made.reference,
            qr_payload=made.qr_payload,
            expires_at=made.expires_at,
            created_at=made.created_at,
            look_at=look_at,
        )
    )
    await _note(connection, made.id, Status.PENDING, By.CUSTOMER, made.amount)


async def count_open(connection: AsyncConnection, user_id: UUID) -> int:
    """How many somebody has open. Nobody else counts theirs until the commit."""
    await connection.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"top_ups:{user_id}", 0)))
    )
    found = select(func.count()).select_from(top_ups).where(top_ups.c.user_id == user_id, _open)
    return int((await connection.execute(found)).scalar_one())


async def one(
    connection: AsyncConnection, top_up_id: UUID, *, user_id: UUID | None = None, lock: bool = False
) -> TopUp | None:
    """One with its history; only if it is the user's, when one is named."""
    where = [top_ups.c.id == top_up_id, *([top_ups.c.user_id == user_id] if user_id else [])]
    found = select(top_ups).where(*where)
    row = (await connection.execute(found.with_for_update() if lock else found)).one_or_none()
    if row is None:
        return None
    changes = select(trail).where(trail.c.subject_id == top_up_id).order_by(trail.c.id)
    return _top_up(row, tuple(_change(each) for each in await connection.execute(changes)))


async def of_user(
    connection: AsyncConnection,
    user_id: UUID,
    *,
    wallet_id: UUID | None,
    status: Status | None,
    before: UUID | None,
    limit: int,
) -> Sequence[TopUp]:
    """Somebody's, newest first."""
    where: list[ColumnElement[bool]] = [top_ups.c.user_id == user_id]
    if wallet_id is not None:
        where.append(top_ups.c.wallet_id == wallet_id)
    if status is not None:
        where.append(top_ups.c.status == status)
    if before is not None:
        where.append(top_ups.c.id < before)
    found = select(top_ups).where(*where).order_by(top_ups.c.id.desc()).limit(limit)
    return [_top_up(row) for row in await connection.execute(found)]


async def move(
    connection: AsyncConnection, top_up: TopUp, status: Status, by: By, look_at: datetime, **more: Any
) -> None:
    """Another status for one that the transaction has locked. `more` are columns that change with it."""
    settled = {} if status in OPEN else {"settled_at": func.clock_timestamp()}
    await connection.execute(
        update(top_ups)
        .where(top_ups.c.id == top_up.id)
        .values(status=status, look_at=look_at, **settled, **more)
    )
    await _note(connection, top_up.id, status, by, more.get("paid_amount", top_up.amount))


async def look_again(connection: AsyncConnection, top_up_id: UUID, look_at: datetime) -> None:
    """The sweeper shall look at it then."""
    await connection.execute(update(top_ups).where(top_ups.c.id == top_up_id).values(look_at=look_at))


async def due(
    connection: AsyncConnection, now: datetime, lease_until: datetime, limit: int
) -> Sequence[TopUp]:
    """Open ones that the sweeper has to look at, leased until then. Other sweepers' are passed over."""
    found = (
        select(top_ups.c.id)
        .where(_open, top_ups.c.look_at <= now)
        .order_by(top_ups.c.look_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    leased = update(top_ups).where(top_ups.c.id.in_(found)).values(look_at=lease_until).returning(*top_ups.c)
    return [_top_up(row) for row in await connection.execute(leased)]


async def next_look(connection: AsyncConnection) -> datetime | None:
    """When the sweeper has to look at one; None when nothing is open."""
    found = select(func.min(top_ups.c.look_at)).where(_open)
    due_at: datetime | None = (await connection.execute(found)).scalar_one()
    return due_at


async def add_payment(
    connection: AsyncConnection, paid: Paid, top_up_id: UUID | None, transfer_id: UUID, why: Why | None
) -> bool:
    """Writes down that money came; False when that was known."""
    done = await connection.execute(
        pg_insert(provider_payments)
        .values(
            provider=paid.provider,
            payment_id=paid.payment_id,
            top_up_id=top_up_id,
            method=paid.method,
            reference=paid.reference,
            amount=paid.amount,
            currency=paid.currency,
            paid_at=paid.at,
            held_because=why.value if why else "",
            transfer_id=transfer_id,
        )
        .on_conflict_do_nothing(constraint="provider_payments_pkey")
    )
    return done.rowcount == 1


async def payment(connection: AsyncConnection, provider: str, payment_id: str) -> Row[Any] | None:
    """Money that came, by the provider's id."""
    found = select(provider_payments).where(
        provider_payments.c.provider == provider, provider_payments.c.payment_id == payment_id
    )
    return (await connection.execute(found)).one_or_none()


async def _note(connection: AsyncConnection, top_up_id: UUID, status: Status, by: By, amount: int) -> None:
    await connection.execute(
        insert(trail).values(subject_id=top_up_id, event=EVENT + status.value, actor=by.value, amount=amount)
    )


def _change(row: Row[Any]) -> Change:
    return Change(Status(row.event.removeprefix(EVENT)), row.created_at, By(row.actor))


def _top_up(row: Row[Any], history: tuple[Change, ...] = ()) -> TopUp:
    return TopUp(
        id=row.id,
        user_id=row.user_id,
        wallet_id=row.wallet_id,
        provider=row.provider,
        method=row.method,
        amount=row.amount,
        currency=row.currency,
        status=Status(row.status),
        reference=row.reference,
        qr_payload=row.qr_payload,
        expires_at=row.expires_at,
        created_at=row.created_at,
        payment_id=row.payment_id,
        processing_since=row.processing_since,
        settled_at=row.settled_at,
        paid_amount=row.paid_amount,
        review_reason=row.review_reason,
        history=history,
    )
