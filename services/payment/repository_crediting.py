"""SQL that puts money which came over a rail into the books: into a wallet, or aside for review."""

from __future__ import annotations

from uuid import UUID

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.errors import Internal
from services.payment import repository_posting
from services.payment.domain import Draft, Kind, Posted
from services.payment.domain_topups import Paid
from services.payment.models import accounts

# Our own accounts are in stripes: who comes by different connections does not wait for one row.
_STRIPES = 8


async def own_account(connection: AsyncConnection, kind: str, name: str, currency: str) -> UUID:
    """One of our own accounts, in the stripe of this connection."""
    found = select(accounts.c.id).where(
        accounts.c.owner.is_(None),
        accounts.c.kind == kind,
        accounts.c.name == name,
        accounts.c.currency == currency,
        accounts.c.stripe == func.pg_backend_pid() % _STRIPES,
    )
    account_id: UUID = (await connection.execute(found)).scalar_one()
    return account_id


async def take_in(
    connection: AsyncConnection,
    transfer_id: UUID,
    paid: Paid,
    *,
    wallet_id: UUID | None,
    top_up_id: UUID | None,
) -> None:
    """Posts what came over a rail: to a wallet, or, with none, to the account for review."""
    clearing = await own_account(connection, "clearing", paid.method, paid.currency)
    credit = wallet_id or await own_account(connection, "review", "", paid.currency)
    kind = Kind.TOPUP if wallet_id else Kind.REVIEW
    await _post(connection, transfer_id, kind, f"provider:{paid.provider}", clearing, credit, paid, top_up_id)


async def resolve(
    connection: AsyncConnection,
    transfer_id: UUID,
    paid: Paid,
    *,
    wallet_id: UUID | None,
    top_up_id: UUID | None,
) -> None:
    """Posts what becomes of money held for review: to a wallet, or, with none, back over its rail."""
    held = await own_account(connection, "review", "", paid.currency)
    credit = wallet_id or await own_account(connection, "clearing", paid.method, paid.currency)
    kind = Kind.TOPUP if wallet_id else Kind.REVIEW
    await _post(connection, transfer_id, kind, "operator", held, credit, paid, top_up_id)


async def _post(
    connection: AsyncConnection,
    transfer_id: UUID,
    kind: Kind,
    caller: str,
    debit: UUID,
    credit: UUID,
    paid: Paid,
    top_up_id: UUID | None,
) -> None:
    """Part of the connection's transaction. Raises Internal when the ledger refuses.

    It does so only when a wallet was suspended a moment ago: who says it again will find that.
    """
    draft = Draft(
        id=transfer_id,
        kind=kind,
        caller=caller,
        debit=debit,
        credit=credit,
        amount=paid.amount,
        currency=paid.currency,
        refers_to=top_up_id,
    )
    driver = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driver, asyncpg.Connection):
        raise Internal
    [done] = await repository_posting.post(driver.fetch, [draft], "{}")
    if not isinstance(done, Posted):
        raise Internal
