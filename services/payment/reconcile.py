"""Whether the books are true: everything that must hold in them, looked at in one snapshot."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

# What must hold, and where it does not: the first column names the row.
RULES: dict[str, str] = {
    "the ledger sums to zero in each currency": """
        SELECT currency FROM accounts GROUP BY currency HAVING sum(balance) <> 0
        UNION ALL
        SELECT a.currency FROM postings p JOIN accounts a ON a.id = p.account_id
        GROUP BY a.currency HAVING sum(p.amount) <> 0
    """,
    "each balance is the sum of its postings, which are numbered without gaps": """
        SELECT a.id::text FROM accounts a
        LEFT JOIN (
            SELECT account_id, sum(amount) AS amount, count(*) AS count, max(seq) AS last
            FROM postings GROUP BY account_id
        ) p ON p.account_id = a.id
        WHERE a.balance <> coalesce(p.amount, 0) OR a.seq <> coalesce(p.count, 0)
            OR a.seq <> coalesce(p.last, 0)
    """,
    "each posting says what was there after it": """
        SELECT account_id || ' ' || seq FROM (
            SELECT account_id, seq, balance_after,
                sum(amount) OVER (PARTITION BY account_id ORDER BY seq) AS sum
            FROM postings
        ) p WHERE balance_after <> sum
    """,
    "each transfer has its two postings, and there are no others": """
        SELECT t.id::text FROM transfers t
        LEFT JOIN postings d ON d.account_id = t.debit_account AND d.seq = t.debit_seq
        LEFT JOIN postings c ON c.account_id = t.credit_account AND c.seq = t.credit_seq
        WHERE d.transfer_id IS DISTINCT FROM t.id OR d.amount <> -t.amount
            OR c.transfer_id IS DISTINCT FROM t.id OR c.amount <> t.amount
        UNION ALL
        SELECT 'postings' WHERE (SELECT count(*) FROM postings) <> (SELECT 2 * count(*) FROM transfers)
    """,
    "each transfer has the currency of both accounts": """
        SELECT t.id::text FROM transfers t
        LEFT JOIN accounts d ON d.id = t.debit_account LEFT JOIN accounts c ON c.id = t.credit_account
        WHERE d.currency IS DISTINCT FROM t.currency OR c.currency IS DISTINCT FROM t.currency
    """,
    "no wallet is negative or has less than it holds": """
        SELECT id::text FROM accounts WHERE NOT may_go_negative AND (balance < held OR held < 0)
    """,
    "what wallets hold is what their holds hold": """
        SELECT a.id::text FROM accounts a
        LEFT JOIN (
            SELECT account_id, sum(amount - captured) AS held FROM holds WHERE status = 'pending'
            GROUP BY account_id
        ) h ON h.account_id = a.id
        WHERE a.held <> coalesce(h.held, 0)
    """,
    "what holds captured is what was paid by them": """
        SELECT h.id::text FROM holds h
        LEFT JOIN (
            SELECT refers_to, sum(amount) AS amount FROM transfers WHERE kind = 'capture' GROUP BY refers_to
        ) t ON t.refers_to = h.id
        WHERE h.captured <> coalesce(t.amount, 0)
    """,
    "no payment was refunded more than it was": """
        SELECT o.id::text FROM transfers o
        JOIN (
            SELECT refers_to, sum(amount) AS amount FROM transfers WHERE kind = 'refund' GROUP BY refers_to
        ) r ON r.refers_to = o.id
        WHERE r.amount > o.amount
    """,
    "each request that is known made a transaction": """
        SELECT r.key::text FROM requests r LEFT JOIN transfers t ON t.id = r.transaction_id WHERE t.id IS NULL
    """,
}
_TOTALS = """
SELECT (SELECT count(*) FROM accounts WHERE kind = 'wallet') AS wallets,
    (SELECT count(*) FROM transfers) AS transfers, (SELECT count(*) FROM postings) AS postings
"""


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that does not hold: in how many places, and the first of them."""

    rule: str
    count: int
    first: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    wallets: int
    transfers: int
    postings: int
    broken: tuple[Broken, ...]


async def reconcile(url: str) -> Report:
    """Looks at the whole ledger, as it was at one moment. Nobody waits for it."""
    connection = await asyncpg.connect(url, timeout=10, server_settings={"application_name": "reconcile"})
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            broken = [await _look(connection, rule, query) for rule, query in RULES.items()]
            totals = await connection.fetchrow(_TOTALS)
    finally:
        await connection.close()
    return Report(**dict(totals or {}), broken=tuple(one for one in broken if one is not None))


async def _look(connection: asyncpg.Connection, rule: str, query: str) -> Broken | None:
    found = await connection.fetchrow(
        f"SELECT count(*) AS count, min(place) AS first FROM ({query}) AS wrong (place)"  # noqa: S608 - our own
    )
    if found is None or not found["count"]:
        return None
    return Broken(rule, found["count"], found["first"])
