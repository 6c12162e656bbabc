"""SQL that puts money which came over a rail into the books: into a wallet, or aside for review."""

from __future__ import annotations

from uuid import UUID

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.errors import Internal
from services.payment import repository_posting
from services.payment.domain import Draft, Kind
from services.payment.models import accounts
from services.payment.repository_posting import Status

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


async def post(
    connection: AsyncConnection,
    transfer_id: UUID,
    *,
    provider: str,
    method: str,
    currency: str,
    amount: int,
    wallet_id: UUID | None,
    top_up_id: UUID | None,
) -> None:
    """Posts what came over a rail: to a wallet, or, with none, to the account for review.

    It is part of the connection's transaction. Raises Internal when the ledger refuses, which it does only
    when a wallet was suspended a moment ago: who says it again will find that.
    """
    draft = Draft(
        id=transfer_id,
        kind=Kind.TOPUP if wallet_id else Kind.REVIEW,
        caller=f"provider:{provider}",
        debit=await own_account(connection, "clearing", method, currency),
        credit=wallet_id or await own_account(connection, "review", "", currency),
        amount=amount,
        currency=currency,
        refers_to=top_up_id,
    )
    driver = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driver, asyncpg.Connection):
        raise Internal
    done = await repository_posting.post(driver.fetch, [draft], "{}")
    if done[0]["status"] != Status.POSTED:
        raise Internal
