"""Reconciling finds every lie, and nothing where there is none."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from services.mesh.app import App
from services.payment.reconcile import RULES, reconcile
from services.stack.pki import Pki
from tests.support.databases import Clone
from tests.support.payment import Payers, payers


@pytest.fixture(scope="module")
async def people(payment: tuple[App, str], payment_database: Clone, pki: Pki) -> AsyncIterator[Payers]:
    async with payers(*payment, payment_database, pki) as found:
        yield found


@asynccontextmanager
async def lying(people: Payers, lie: str, undo: str, *values: object) -> AsyncIterator[None]:
    """A lie that only a superuser can tell, with all triggers off."""
    admin = await asyncpg.connect(people.database.admin_url)
    try:
        await admin.execute("SET session_replication_role = replica")
        await admin.execute(lie, *values)
        yield
        await admin.execute(undo, *values)
    finally:
        await admin.close()


async def test_true_books_are_clean(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, _ = await people.rich(0)
    sent = await one.send(wallet, other.id, 300, str(uuid.uuid4()))
    await other.refund(sent.id, 100)
    hold = await one.hold(wallet, other.id, 50)
    await other.capture(hold.id, 20)
    report = await reconcile(people.database.runtime_url)
    assert report.broken == ()
    assert (report.wallets, report.transfers, report.postings) == (2, 4, 8)


LIES = {
    "a balance": (
        "UPDATE accounts SET balance = balance + 1 WHERE id = $1",
        "UPDATE accounts SET balance = balance - 1 WHERE id = $1",
        {
            "the ledger sums to zero in each currency",
            "each balance is the sum of its postings, which are numbered without gaps",
        },
    ),
    "what is held": (
        "UPDATE accounts SET held = held + 1 WHERE id = $1",
        "UPDATE accounts SET held = held - 1 WHERE id = $1",
        {"what wallets hold is what their holds hold"},
    ),
    "a posting": (
        "UPDATE postings SET amount = amount + 1 WHERE account_id = $1 AND seq = 1",
        "UPDATE postings SET amount = amount - 1 WHERE account_id = $1 AND seq = 1",
        {
            "the ledger sums to zero in each currency",
            "each balance is the sum of its postings, which are numbered without gaps",
            "each posting says what was there after it",
            "each transfer has its two postings, and there are no others",
        },
    ),
    "a running balance": (
        "UPDATE postings SET balance_after = balance_after + 1 WHERE account_id = $1 AND seq = 1",
        "UPDATE postings SET balance_after = balance_after - 1 WHERE account_id = $1 AND seq = 1",
        {"each posting says what was there after it"},
    ),
    "a currency": (
        "UPDATE transfers SET currency = 'SGD' WHERE credit_account = $1",
        "UPDATE transfers SET currency = 'THB' WHERE credit_account = $1",
        {"each transfer has the currency of both accounts"},
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_found_and_named(people: Payers, lie: str) -> None:
    _, wallet = await people.rich(1_000)
    told, undo, broken = LIES[lie]
    async with lying(people, told, undo, uuid.UUID(wallet.id)):
        report = await reconcile(people.database.runtime_url)
        assert {one.rule for one in report.broken} == broken
        assert broken <= set(RULES)
    assert (await reconcile(people.database.runtime_url)).broken == ()
