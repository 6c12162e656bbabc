"""People pay each other while payment (in two processes) and PostgreSQL are killed: the books never lie."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator

import pytest

from tests.conftest import own_stack
from tests.support import parts
from tests.support.bank import Bank
from tests.support.stack import Stack

WORKERS, CUSTOMERS = 20, 50
# How many transfers the long test makes; each part is killed so often for 100,000 of them.
TRANSFERS = int(os.environ.get("SAMPAN_BANK_TRANSFERS", "100000"))
ROUNDS = 15
KILLED = ("money-1", "money-2", "postgres")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack in which payment runs twice, and nobody is held back by limits."""
    extra = {
        "SAMPAN_RATE_LIMIT_SCALE": "100000",
        "SAMPAN_PROCESS_REPLICAS": '{"money": 2}',
        "SAMPAN_PAYMENT_DAILY_LIMITS": '{"THB": [1000000000, 1000000000, 1000000000, 1000000000]}',
        "SAMPAN_IDENTITY_ACCESS_TOKEN_SECONDS": "14400",
    }
    with own_stack("bank", extra, measured=False) as found:
        yield found


async def kills(stack: Stack, bank: Bank, transfers: int, rounds: int) -> list[str]:
    """Kills each part so many times, in any order, all along the transfers, each when all is well again."""
    wanted = [part for part in KILLED for _ in range(rounds)]
    random.shuffle(wanted)
    for place, part in enumerate(wanted):
        await bank.has_done(transfers * place // len(wanted))
        killed = parts.kill(stack, part)
        await parts.another(stack, part, killed, within=30)
        await parts.well(stack, within=60)
    return wanted


async def run(stack: Stack, transfers: int, rounds: int) -> Bank:
    """Transfers, full reads and kills at the same time; then the books are compared with what was told."""
    await parts.well(stack, within=60)
    begun = time.monotonic()
    async with Bank.of(stack, CUSTOMERS) as bank:
        audits = asyncio.create_task(bank.audits())
        killing = asyncio.create_task(kills(stack, bank, transfers, rounds))
        try:
            await bank.works(WORKERS, transfers, killing)
            await killing
            assert not audits.done(), audits.exception()
        finally:
            audits.cancel()
            killing.cancel()
            await asyncio.gather(audits, killing, return_exceptions=True)
        await parts.well(stack, within=60)
        await bank.agrees()
        done = stack.command("payment", "reconcile")
        assert done.returncode == 0, done.stdout
        took = time.monotonic() - begun
        print(f"{len(bank.paid)} paid, {bank.refused} refused, {bank.reads} full reads in {took:.0f} s")
        return bank


async def test_books_never_lie_while_parts_are_killed(stack: Stack) -> None:
    bank = await run(stack, transfers=1_000, rounds=1)
    assert len(bank.paid) + bank.refused >= 1_000
    assert bank.reads > 0


@pytest.mark.long
async def test_books_never_lie_in_a_hundred_thousand_transfers(stack: Stack) -> None:
    bank = await run(stack, TRANSFERS, max(1, ROUNDS * TRANSFERS // 100_000))
    assert len(bank.paid) + bank.refused >= TRANSFERS
    assert bank.reads > 0
