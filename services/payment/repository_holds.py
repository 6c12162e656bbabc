"""SQL of holds and refunds. What is held, and what was captured, the database derives by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payment.models import accounts, holds, trail, transfers
from services.payment.repository import wallets_shown

_payer = accounts.alias("payer")
_payee = accounts.alias("payee")
_shown = (
    select(holds, _payer.c.owner.label("sender"), _payee.c.owner.label("recipient"))
    .join(_payer, _payer.c.id == holds.c.account_id)
    .join(_payee, _payee.c.id == holds.c.payee_account)
)


async def wallet_for(connection: AsyncConnection, owner: UUID, currency: str) -> UUID | None:
    """The wallet of a person in a currency."""
    found = select(accounts.c.id).where(accounts.c.owner == owner, accounts.c.currency == currency)
    wallet: UUID | None = await connection.scalar(found)
    return wallet


async def lock_wallets(connection: AsyncConnection, wallets: Iterable[UUID]) -> dict[UUID, Row[Any]]:
    """Wallets as they are now; nobody moves anything in them until the commit. Locked in the order of ids."""
    wanted = list(wallets)
    locked = select(accounts.c.id).where(accounts.c.id.in_(wanted)).order_by(accounts.c.id)
    await connection.execute(locked.with_for_update(key_share=True))
    # In a later statement: that one saw rows as they were before it waited.
    rows = await connection.execute(wallets_shown.where(accounts.c.id.in_(wanted)))
    return {row.id: row for row in rows}


async def insert_hold(
    connection: AsyncConnection,
    hold_id: UUID,
    account: UUID,
    payee: UUID,
    amount: int,
    currency: str,
    caller: str,
    life: timedelta,
) -> bool:
    """Makes a hold that expires after a time; False when something has that id already."""
    done = await connection.execute(
        pg_insert(holds)
        .values(
            id=hold_id,
            account_id=account,
            payee_account=payee,
            amount=amount,
            currency=currency,
            status="pending",
            caller=caller,
            expires_at=func.clock_timestamp() + life,
        )
        .on_conflict_do_nothing(index_elements=[holds.c.id])
    )
    return done.rowcount == 1


async def bury_hold(connection: AsyncConnection, hold_id: UUID, caller: str) -> bool:
    """Leaves a tombstone where a hold would come, so that it cannot; False when it is there already."""
    done = await connection.execute(
        pg_insert(holds)
        .values(id=hold_id, amount=0, status="voided", caller=caller, expires_at=func.clock_timestamp())
        .on_conflict_do_nothing(index_elements=[holds.c.id])
    )
    return done.rowcount == 1


async def is_buried(connection: AsyncConnection, hold_id: UUID, caller: str) -> bool:
    """Whether that service has left a tombstone there."""
    found = select(holds.c.id).where(
        holds.c.id == hold_id, holds.c.account_id.is_(None), holds.c.caller == caller
    )
    return (await connection.execute(found)).one_or_none() is not None


async def is_taken(connection: AsyncConnection, hold_id: UUID) -> bool:
    """Whether there is a hold with that id, or its tombstone."""
    return bool(await connection.scalar(select(exists().where(holds.c.id == hold_id))))


async def hold(connection: AsyncConnection, hold_id: UUID) -> Row[Any] | None:
    """A hold with its people."""
    return (await connection.execute(_shown.where(holds.c.id == hold_id))).one_or_none()


async def lock_hold(connection: AsyncConnection, hold_id: UUID) -> None:
    """Nobody else captures it, lets go of it or has it expire until the commit."""
    await connection.execute(select(holds.c.id).where(holds.c.id == hold_id).with_for_update())


async def holds_of(
    connection: AsyncConnection, person: UUID, status: str, before: UUID | None, most: int
) -> Sequence[Row[Any]]:
    """Holds that a person pays or is paid by, newest first."""
    own = select(accounts.c.id).where(accounts.c.owner == person)

    def side(column: Any) -> Any:
        found = select(holds.c.id).where(column.in_(own))
        found = found.where(holds.c.status == status) if status else found
        found = found.where(holds.c.id < before) if before else found
        return found.order_by(holds.c.id.desc()).limit(most)

    ids = side(holds.c.account_id).union(side(holds.c.payee_account)).subquery()
    found = _shown.where(holds.c.id.in_(select(ids.c.id))).order_by(holds.c.id.desc()).limit(most)
    return (await connection.execute(found)).all()


async def close_hold(connection: AsyncConnection, hold_id: UUID, status: str) -> bool:
    """Lets go of what is held yet; False when it was closed already."""
    done = await connection.execute(
        update(holds)
        .where(holds.c.id == hold_id, holds.c.status == "pending")
        .values(status=status, closed_at=func.clock_timestamp())
    )
    return done.rowcount == 1


async def lock_expired_hold(connection: AsyncConnection) -> Any:
    """One pending hold whose time is over, and that nobody is at work on."""
    found = (
        select(holds.c.id, holds.c.amount, holds.c.captured)
        .where(holds.c.status == "pending", holds.c.expires_at <= func.clock_timestamp())
        .order_by(holds.c.expires_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return (await connection.execute(found)).one_or_none()


async def now(connection: AsyncConnection) -> datetime:
    """What the database's clock says."""
    found: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    return found


async def add_trail(
    connection: AsyncConnection,
    subject_id: UUID,
    event: str,
    actor: str,
    amount: int | None = None,
    transaction_id: UUID | None = None,
) -> None:
    """Writes down what has happened."""
    said = {"event": event, "actor": actor, "amount": amount, "transaction_id": transaction_id}
    await connection.execute(insert(trail).values(subject_id=subject_id, **said))


async def transfer(connection: AsyncConnection, transaction_id: UUID) -> Row[Any] | None:
    """A transaction's own transfer, with the people of both sides."""
    found = (
        select(transfers, _payer.c.owner.label("sender"), _payee.c.owner.label("recipient"))
        .join(_payer, _payer.c.id == transfers.c.debit_account)
        .join(_payee, _payee.c.id == transfers.c.credit_account)
        .where(transfers.c.id == transaction_id, transfers.c.transaction_id == transfers.c.id)
    )
    return (await connection.execute(found)).one_or_none()
