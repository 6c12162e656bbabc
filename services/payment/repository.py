"""SQL of wallets and of what people may do with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payment.models import accounts, person_keys, standings

WALLET = "wallet"

_today = func.date(func.timezone(accounts.c.time_zone, func.now()))
# With `is_today`: whether what was spent was spent on the present day of the wallet.
wallets_shown = select(accounts, (accounts.c.day == _today).label("is_today")).where(
    accounts.c.kind == WALLET
)


async def insert_wallet(
    connection: AsyncConnection,
    wallet_id: UUID,
    owner: UUID,
    currency: str,
    time_zone: str,
    kyc_tier: int,
    *,
    suspended: bool,
) -> bool:
    """Makes a wallet; False when its owner has one of the currency."""
    done = await connection.execute(
        insert(accounts)
        .values(
            id=wallet_id,
            kind=WALLET,
            owner=owner,
            currency=currency,
            may_go_negative=False,
            kyc_tier=kyc_tier,
            suspended=suspended,
            time_zone=time_zone,
        )
        .on_conflict_do_nothing(constraint="accounts_owner_key")
    )
    return done.rowcount == 1


async def wallets_of(connection: AsyncConnection, owner: UUID) -> Sequence[Row[Any]]:
    """A person's wallets, in the order of their making."""
    found = wallets_shown.where(accounts.c.owner == owner).order_by(accounts.c.id)
    return (await connection.execute(found)).all()


async def wallet_of(connection: AsyncConnection, owner: UUID, wallet_id: UUID) -> Row[Any] | None:
    """One of a person's wallets."""
    found = wallets_shown.where(accounts.c.owner == owner, accounts.c.id == wallet_id)
    return (await connection.execute(found)).one_or_none()


async def keep_person_key(connection: AsyncConnection, user_id: UUID, wrapped: bytes) -> None:
    """Keeps a person's data key, unless there is one."""
    await connection.execute(
        insert(person_keys).values(user_id=user_id, wrapped=wrapped).on_conflict_do_nothing()
    )


async def person_keys_of(connection: AsyncConnection, people: Sequence[UUID]) -> dict[UUID, bytes]:
    """The wrapped data keys of people; without those that have none."""
    found = select(person_keys.c.user_id, person_keys.c.wrapped).where(person_keys.c.user_id.in_(people))
    return {row.user_id: row.wrapped for row in await connection.execute(found)}


async def lock_standing(connection: AsyncConnection, user_id: UUID) -> Row[Any] | None:
    """What is known of a person. Nobody changes it, or makes a wallet of theirs, until the commit."""
    await connection.execute(select(func.pg_advisory_xact_lock(_lock_of(user_id))))
    return (await connection.execute(select(standings).where(standings.c.user_id == user_id))).one_or_none()


async def set_standing(
    connection: AsyncConnection, user_id: UUID, kyc_tier: int, version: int, *, suspended: bool
) -> None:
    """Keeps what is known of a person, also in their wallets."""
    known = {"kyc_tier": kyc_tier, "suspended": suspended}
    await connection.execute(
        insert(standings)
        .values(user_id=user_id, version=version, **known)
        .on_conflict_do_update(index_elements=[standings.c.user_id], set_={"version": version, **known})
    )
    # Locks of several accounts are taken in the order of their ids, everywhere.
    await connection.execute(
        select(accounts.c.id)
        .where(accounts.c.owner == user_id)
        .order_by(accounts.c.id)
        .with_for_update(key_share=True)
    )
    await connection.execute(
        update(accounts).where(accounts.c.owner == user_id, accounts.c.kind == WALLET).values(**known)
    )


def _lock_of(user_id: UUID) -> int:
    return int.from_bytes(user_id.bytes[8:], "big", signed=True)
