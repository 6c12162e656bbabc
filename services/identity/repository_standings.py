"""SQL of how people stand, and of what payment knows of it. The version grows by a trigger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.identity.domain import AccountStatus, Standing
from services.identity.models import accounts

_shown = select(accounts.c.id, accounts.c.kyc_tier, accounts.c.status, accounts.c.standing_version)
_untold = _shown.where(accounts.c.standing_told < accounts.c.standing_version)


async def standing(connection: AsyncConnection, account_id: UUID) -> Standing:
    """How somebody stands."""
    return _standing((await connection.execute(_shown.where(accounts.c.id == account_id))).one())


async def untold(connection: AsyncConnection, most: int) -> Sequence[Standing]:
    """Of whom payment does not know yet how they stand."""
    return [_standing(row) for row in await connection.execute(_untold.limit(most))]


async def untold_of(connection: AsyncConnection, account_id: UUID) -> Standing | None:
    """How somebody stands; None when payment knows."""
    row = (await connection.execute(_untold.where(accounts.c.id == account_id))).one_or_none()
    return None if row is None else _standing(row)


async def keep_told(connection: AsyncConnection, told: Standing) -> None:
    """Payment knows that, or something newer."""
    await connection.execute(
        update(accounts)
        .where(accounts.c.id == told.account_id)
        .values(standing_told=func.greatest(accounts.c.standing_told, told.version))
    )


async def lock_status(connection: AsyncConnection, account_id: UUID) -> AccountStatus:
    """Whether somebody is suspended; nobody changes it until the commit."""
    found = select(accounts.c.status).where(accounts.c.id == account_id).with_for_update(read=True)
    return AccountStatus((await connection.execute(found)).scalar_one())


async def set_status(connection: AsyncConnection, account_id: UUID, status: AccountStatus) -> None:
    """Suspends or restores an account."""
    await connection.execute(
        update(accounts).where(accounts.c.id == account_id).values(status=status.value, updated_at=func.now())
    )


def _standing(row: Any) -> Standing:
    return Standing(row.id, row.kyc_tier, AccountStatus(row.status), row.standing_version)
