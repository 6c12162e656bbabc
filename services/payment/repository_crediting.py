"""SQL that puts money which came over a rail into the books: into a wallet, or aside for review."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import BIGINT, TEXT
from sqlalchemy.dialects.postgresql import UUID as PGUUID
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.errors import Internal

# Our own accounts are in stripes: who comes in by different connections does not wait for one row.
_STRIPE = "stripe = pg_backend_pid() % 8"
_POST = text(
    f"""
    SELECT posted.status FROM (
        SELECT clearing.id AS debit, coalesce(:wallet, held.id) AS credit
        FROM accounts clearing LEFT JOIN accounts held
            ON held.kind = 'review' AND held.name = '' AND held.currency = :currency AND held.{_STRIPE}
        WHERE clearing.kind = 'clearing' AND clearing.name = :method AND clearing.currency = :currency
            AND clearing.{_STRIPE}
    ) AS legs, post_transfers(
        ARRAY[:id], ARRAY[:kind], ARRAY[:caller], ARRAY[NULL]::uuid[], ARRAY[NULL]::bytea[],
        ARRAY[legs.debit], ARRAY[NULL]::uuid[], ARRAY[legs.credit], ARRAY[NULL]::uuid[],
        ARRAY[:amount], ARRAY[:currency], ARRAY[0]::bigint[], ARRAY[NULL]::uuid[], ARRAY[:refers],
        ARRAY[NULL]::uuid[], ARRAY[NULL]::bytea[], ARRAY[NULL]::uuid[], ARRAY[NULL]::text[],
        ARRAY[NULL]::bytea[], ARRAY[NULL]::text[], '{{}}'
    ) AS posted
    """  # noqa: S608 - nothing of a caller's is in it
).bindparams(
    bindparam("id", type_=PGUUID(as_uuid=True)),
    bindparam("wallet", type_=PGUUID(as_uuid=True)),
    bindparam("refers", type_=PGUUID(as_uuid=True)),
    bindparam("kind", type_=TEXT),
    bindparam("caller", type_=TEXT),
    bindparam("method", type_=TEXT),
    bindparam("currency", type_=TEXT),
    bindparam("amount", type_=BIGINT),
)


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

    Raises Internal when the ledger refuses: its caller has looked at everything that it may refuse.
    """
    done = await connection.execute(
        _POST,
        {
            "id": transfer_id,
            "kind": "topup" if wallet_id else "review",
            "caller": f"provider:{provider}",
            "method": method,
            "currency": currency,
            "amount": amount,
            "wallet": wallet_id,
            "refers": top_up_id,
        },
    )
    if done.scalar_one_or_none() != 0:
        raise Internal
