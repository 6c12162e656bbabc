"""The database refuses what is not balanced, changed or negative: to the running role and to the owner."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.databases import Clone
from tests.support.money import lies
from tests.support.payment import Payers, payers

TRANSFER = """
INSERT INTO transfers (id, transaction_id, kind, debit_account, debit_seq, credit_account, credit_seq, amount,
    currency, caller, created_at)
SELECT gen_random_uuid(), gen_random_uuid(), 'send', d.id, d.seq + {debit}, c.id, c.seq + {credit}, {amount},
    '{currency}', 'test', now()
FROM accounts d, accounts c WHERE d.id = '{one}' AND c.id = '{other}'
"""
# A transfer that would do, and what makes each other one a lie.
GOOD = {"debit": "1", "credit": "1", "amount": "10", "currency": "THB"}
LIES = {
    "more than there is": {"amount": "1001"},
    "nothing": {"amount": "0"},
    "less than nothing": {"amount": "-10"},
    "another currency": {"currency": "SGD"},
    "a number twice": {"debit": "0"},
    "a gap in the numbers": {"credit": "2"},
    "to itself": {"other": "{one}"},
    "from no account": {"one": str(uuid.UUID(int=0))},
    "more than any number": {"amount": "9223372036854775808"},
}
# Of the running role and the owner alike; `{one}` is a wallet with postings.
NEVER = {
    "a changed posting": "UPDATE postings SET amount = amount + 1 WHERE account_id = '{one}'",
    "a deleted posting": "DELETE FROM postings WHERE account_id = '{one}'",
    "no postings": "TRUNCATE postings",
    "a posting without a transfer": """
        INSERT INTO postings (account_id, seq, transfer_id, amount, balance_after, created_at)
        VALUES ('{one}', 99, gen_random_uuid(), 5, 5, now())""",
    "a changed transfer": "UPDATE transfers SET amount = 1 WHERE credit_account = '{one}'",
    "a deleted transfer": "DELETE FROM transfers WHERE credit_account = '{one}'",
    "no transfers": "TRUNCATE transfers",
    "another balance": "UPDATE accounts SET balance = balance + 1 WHERE id = '{one}'",
    "another number": "UPDATE accounts SET seq = seq + 1 WHERE id = '{one}'",
    "something held": "UPDATE accounts SET held = 1 WHERE id = '{one}'",
    "less spent": "UPDATE accounts SET spent_today = 0 WHERE id = '{one}'",
    "another owner": "UPDATE accounts SET owner = gen_random_uuid() WHERE id = '{one}'",
    "leave to go negative": "UPDATE accounts SET may_go_negative = true WHERE id = '{one}'",
    "another currency": "UPDATE accounts SET currency = 'SGD' WHERE id = '{one}'",
    "a deleted account": "DELETE FROM accounts WHERE id = '{one}'",
    "an account that begins rich": """
        INSERT INTO accounts (id, kind, owner, currency, may_go_negative, balance)
        VALUES (gen_random_uuid(), 'wallet', gen_random_uuid(), 'THB', false, 100)""",
    "a wallet that may go negative": """
        INSERT INTO accounts (id, kind, owner, currency, may_go_negative)
        VALUES (gen_random_uuid(), 'wallet', gen_random_uuid(), 'THB', true)""",
    "a changed trail": "UPDATE trail SET event = 'x'",
    "a deleted hold": "DELETE FROM holds",
}
REFUSED = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.CheckViolationError,
    asyncpg.UniqueViolationError,
    asyncpg.DataError,
)


@pytest.fixture(scope="module")
async def people(payment: tuple[App, str], payment_database: Clone, pki: Pki) -> AsyncIterator[Payers]:
    async with payers(*payment, payment_database, pki) as found:
        yield found
        assert await lies(found.owner) == []


@pytest.fixture(params=["running", "owner"])
async def connection(
    request: pytest.FixtureRequest, payment_database: Clone
) -> AsyncIterator[asyncpg.Connection]:
    """The database, for the role that runs and for the one that owns the tables."""
    url = payment_database.runtime_url if request.param == "running" else payment_database.owner_url
    found = await asyncpg.connect(url)
    yield found
    await found.close()


async def books(people: Payers) -> list[asyncpg.Record]:
    """All balances."""
    rows: list[asyncpg.Record] = await people.owner.fetch(
        "SELECT id, balance, held, seq FROM accounts ORDER BY id"
    )
    return rows


async def statement(people: Payers, **changed: str) -> str:
    """A transfer between two people."""
    _, one = await people.rich(1_000)
    _, other = await people.rich(5)
    given = {"one": one.id, "other": other.id, **GOOD, **changed}
    return TRANSFER.format(**{key: value.format(**given) for key, value in given.items()})


async def test_a_transfer_moves_both_balances_by_itself(
    people: Payers, connection: asyncpg.Connection
) -> None:
    before = {row["id"]: row["balance"] for row in await books(people)}
    await connection.execute(await statement(people))
    after = {row["id"]: row["balance"] for row in await books(people)}
    moved = sorted(
        after[found] - before.get(found, 0) for found in after if after[found] != before.get(found, 0)
    )
    assert moved == [-1005, 15, 990]
    assert await lies(people.owner) == []


@pytest.mark.parametrize("lie", LIES)
async def test_a_transfer_that_lies_is_refused(
    people: Payers, connection: asyncpg.Connection, lie: str
) -> None:
    wrong = await statement(people, **LIES[lie])
    before = await books(people)
    if lie == "from no account":
        # Nothing is selected: so it is said plainly.
        wrong = wrong.replace("FROM accounts d, accounts c WHERE d.id = ", "FROM (SELECT ").replace(
            " AND c.id = ", "::uuid AS id, 0 AS seq) d, accounts c WHERE c.id = "
        )
    with pytest.raises(REFUSED):
        await connection.execute(wrong)
    assert await books(people) == before


@pytest.mark.parametrize("what", NEVER)
async def test_what_never_happens(people: Payers, connection: asyncpg.Connection, what: str) -> None:
    _, one = await people.rich(1_000)
    before = await books(people)
    with pytest.raises(REFUSED):
        await connection.execute(NEVER[what].format(one=one.id))
    assert await books(people) == before


@pytest.mark.parametrize(
    "tried",
    [
        "ALTER TABLE postings DISABLE TRIGGER ALL",
        "DROP TRIGGER post_legs ON transfers",
        "DROP TABLE postings",
        "SET session_replication_role = replica",
        "UPDATE requests SET request_hash = ''",
        "DELETE FROM requests",
        "DELETE FROM idempotency",
        "DELETE FROM trail",
        "UPDATE holds SET captured = 0",
        "UPDATE holds SET amount = 0",
        "UPDATE outbox SET payload = ''",
        "CREATE TABLE more (id int)",
        "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
async def test_the_running_role_cannot_get_around_it(payment_database: Clone, tried: str) -> None:
    connection = await asyncpg.connect(payment_database.runtime_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(tried)
    finally:
        await connection.close()
