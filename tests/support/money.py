"""The books as their owner sees them: money from nowhere, and whether everything adds up."""

from __future__ import annotations

import uuid

import asyncpg

# From what a rail owes us, by an ordinary transfer: the triggers do the rest.
_FUND = """
INSERT INTO transfers (id, transaction_id, kind, debit_account, debit_seq, credit_account, credit_seq, amount,
    currency, caller, created_at)
SELECT $2, $2, 'topup', own.id, own.seq + 1, wallet.id, wallet.seq + 1, $3, wallet.currency, 'test', now()
FROM accounts wallet JOIN accounts own
    ON own.kind = 'clearing' AND own.name = 'manual' AND own.stripe = $4 AND own.currency = wallet.currency
WHERE wallet.id = $1 FOR NO KEY UPDATE
"""
# Rows of each are lies.
LIES = {
    "money from nowhere": "SELECT currency FROM accounts GROUP BY currency HAVING sum(balance) <> 0",
    "a negative wallet": "SELECT id FROM accounts WHERE NOT may_go_negative AND balance < greatest(held, 0)",
    "a balance that is not the sum of its postings": """
        SELECT a.id FROM accounts a LEFT JOIN postings p ON p.account_id = a.id GROUP BY a.id
        HAVING a.balance <> coalesce(sum(p.amount), 0) OR a.seq <> count(p.seq)
            OR a.seq <> coalesce(max(p.seq), 0)""",
    "a running balance that does not run": """
        SELECT account_id FROM (
            SELECT account_id, balance_after,
                sum(amount) OVER (PARTITION BY account_id ORDER BY seq) AS running
            FROM postings
        ) p WHERE balance_after <> running""",
    "a transfer without two legs": """
        SELECT t.id FROM transfers t LEFT JOIN postings p ON p.transfer_id = t.id GROUP BY t.id
        HAVING count(*) <> 2 OR sum(p.amount) <> 0 OR max(p.amount) <> max(t.amount)""",
    "held is not what holds hold": """
        SELECT a.id FROM accounts a LEFT JOIN holds h ON h.account_id = a.id AND h.status = 'pending'
        GROUP BY a.id HAVING a.held <> coalesce(sum(h.amount - h.captured), 0)""",
}


async def fund(owner: asyncpg.Connection, wallet_id: str, amount: int, stripe: int = 0) -> None:
    """Puts money into a wallet."""
    done = await owner.execute(_FUND, uuid.UUID(wallet_id), uuid.uuid4(), amount, stripe)
    assert done == "INSERT 0 1"


async def lies(owner: asyncpg.Connection) -> list[str]:
    """What is wrong with the books."""
    return [what for what, query in LIES.items() if await owner.fetch(query)]


async def balance(owner: asyncpg.Connection, wallet_id: str) -> int:
    """What a wallet has."""
    found: int = await owner.fetchval("SELECT balance FROM accounts WHERE id = $1", uuid.UUID(wallet_id))
    return found
