"""SQL of what moved: lists, single transactions, statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Row, Text, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

# A posting with its transfer, the people of both sides and the fee of the same transaction. What the fee left
# is what the paying wallet had after it.
_SIDE = """
    p.account_id, p.seq, p.amount AS signed, p.created_at,
    coalesce(fee_leg.balance_after, p.balance_after) AS balance_after,
    t.id, t.transaction_id, t.kind, t.amount, t.currency, t.refers_to, t.caller,
    d.owner AS sender, c.owner AS recipient, coalesce(fee.amount, 0) AS fee, n.person_id, n.sealed
"""
_JOINED = """
    JOIN transfers t ON t.id = p.transfer_id
    JOIN accounts d ON d.id = t.debit_account
    JOIN accounts c ON c.id = t.credit_account
    LEFT JOIN transfers fee ON p.amount < 0 AND fee.transaction_id = t.id AND fee.transaction_id <> fee.id
        AND fee.kind = 'fee'
    LEFT JOIN postings fee_leg ON fee_leg.account_id = p.account_id AND fee_leg.seq = fee.debit_seq
    LEFT JOIN notes n ON n.transaction_id = t.id
"""
# Each wallet is walked from where its part of the list goes on, so that a page costs what it shows.
_LIST = text(f"""
SELECT found.* FROM unnest(:wallets, :before, :first) AS w (id, before, first)
CROSS JOIN LATERAL (
    SELECT {_SIDE} FROM postings p {_JOINED}
    WHERE p.account_id = w.id AND p.seq < w.before AND p.seq >= w.first AND t.kind <> 'fee'
        AND (:kind = '' OR t.kind = :kind)
    ORDER BY p.seq DESC LIMIT :most
) AS found
ORDER BY found.created_at DESC, found.account_id, found.seq DESC LIMIT :most
""").bindparams(  # noqa: S608 - made of constants
    bindparam("wallets", type_=ARRAY(Uuid)),
    bindparam("before", type_=ARRAY(BigInteger)),
    bindparam("first", type_=ARRAY(BigInteger)),
    bindparam("kind", type_=Text),
    bindparam("most", type_=BigInteger),
)
_ONE = text(f"""
SELECT {_SIDE}, t.debit_account, t.credit_account
FROM transfers o
JOIN accounts a ON a.owner = :person AND a.id IN (o.debit_account, o.credit_account)
JOIN postings p ON p.account_id = a.id
    AND p.seq = CASE WHEN a.id = o.debit_account THEN o.debit_seq ELSE o.credit_seq END
{_JOINED}
WHERE o.id = :id AND o.transaction_id = o.id
""")  # noqa: S608 - made of constants
_STATEMENT = text(f"""
SELECT {_SIDE}, p.balance_after AS own_balance_after FROM postings p {_JOINED}
WHERE p.account_id = :wallet AND p.seq >= :first AND p.seq < :before ORDER BY p.seq LIMIT :most
""")  # noqa: S608 - made of constants
_AUDIT = text("""
SELECT 'posted' AS event, t.caller AS actor, t.amount, NULL::uuid AS transaction_id, t.created_at,
    0::bigint AS n
FROM transfers t WHERE t.id = :id
UNION ALL
SELECT 'fee', t.caller, t.amount, NULL, t.created_at, 1 FROM transfers t
WHERE t.transaction_id = :id AND t.transaction_id <> t.id AND t.kind = 'fee'
UNION ALL
SELECT 'refunded', t.caller, t.amount, t.id, t.created_at, 2 FROM transfers t
WHERE t.refers_to = :id AND t.kind = 'refund'
UNION ALL
SELECT event, actor, amount, transaction_id, created_at, id FROM trail WHERE subject_id IN (:id, :refers_to)
ORDER BY 5, 6
""").bindparams(bindparam("id", type_=Uuid), bindparam("refers_to", type_=Uuid))
_SEQ_AT = text("SELECT seq_at(:account, :moment)").bindparams(bindparam("account", type_=Uuid))
_REFUNDED = text("SELECT coalesce(sum(amount), 0) FROM transfers WHERE refers_to = :id AND kind = 'refund'")


async def page(
    connection: AsyncConnection, ranges: Mapping[UUID, tuple[int, int]], kind: str, most: int
) -> Sequence[Row[Any]]:
    """What moved in wallets, newest first; of each from one number and before another."""
    given = {
        "wallets": list(ranges),
        "first": [first for first, _ in ranges.values()],
        "before": [before for _, before in ranges.values()],
    }
    return (await connection.execute(_LIST, {**given, "kind": kind, "most": most})).all()


async def one(connection: AsyncConnection, person: UUID, transaction_id: UUID) -> Row[Any] | None:
    """A transaction as one of its people sees it."""
    return (await connection.execute(_ONE, {"person": person, "id": transaction_id})).first()


async def audit(
    connection: AsyncConnection, transaction_id: UUID, refers_to: UUID | None
) -> Sequence[Row[Any]]:
    """What happened with a transaction, and with what it was made for."""
    return (await connection.execute(_AUDIT, {"id": transaction_id, "refers_to": refers_to})).all()


async def refunded(connection: AsyncConnection, transaction_id: UUID) -> int:
    """How much of it was given back."""
    return int(await connection.scalar(_REFUNDED, {"id": transaction_id}) or 0)


async def seq_at(connection: AsyncConnection, account: UUID, moment: datetime) -> int:
    """The number of an account's first posting from a moment on."""
    return int(await connection.scalar(_SEQ_AT, {"account": account, "moment": moment}) or 0)


async def statement(
    connection: AsyncConnection, wallet: UUID, first: int, before: int, most: int
) -> Sequence[Row[Any]]:
    """A wallet's postings in their order."""
    given = {"wallet": wallet, "first": first, "before": before, "most": most}
    return (await connection.execute(_STATEMENT, given)).all()
