"""kill -9 at every step of a top-up: the money comes once, and is never lost."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from services.mesh import faults
from tests.support import parts
from tests.support.clients import Clients, Person
from tests.support.doors import Reply
from tests.support.faults import armed
from tests.support.money import lies
from tests.support.stack import Stack
from tests.support.waiting import until

# Runs payment.
PROCESS = "money"
WITHIN = 30
MOMENTS = ("before_commit", "after_commit")
AMOUNT = 25_000


@dataclass(frozen=True)
class Victim:
    """Somebody who tops up while payment dies; `owner` sees the books."""

    stack: Stack
    clients: Clients
    person: Person
    wallet: str
    owner: asyncpg.Connection

    async def until_answered(self, method: str, path: str, body: Any = None) -> Reply:
        """The first answer that says yes or no, to the same request again and again."""
        async with asyncio.timeout(WITHIN):
            while True:
                try:
                    reply = await self.clients.rest.call(method, path, body, token=self.person.token)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                if reply.code not in {503, 504}:
                    return reply
                await asyncio.sleep(0.05)

    async def asked(self, request_id: str = "") -> Reply:
        """A top-up."""
        body = {
            "wallet_id": self.wallet,
            "amount": AMOUNT,
            "currency": "THB",
            "method": "promptpay",
            "request_id": request_id,
        }
        reply = await self.until_answered("POST", "/v1/transactions/topup", body)
        assert reply.code == 201, reply
        return reply

    async def pay(self, qr: str, *options: str) -> dict[str, Any]:
        """Goes to the bank, which takes the money."""
        done = await asyncio.to_thread(self.stack.command, "bank", "pay", qr, *options)
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    async def status(self, top_up_id: str) -> str:
        """Of a top-up, in the books."""
        wanted = "SELECT status FROM top_ups WHERE id = $1"
        found: str = await self.owner.fetchval(wanted, uuid.UUID(top_up_id))
        return found

    async def check(self, balance: int, review: int = 0) -> None:
        """The wallet has what it should, by one transfer, and the books balance."""
        account = uuid.UUID(self.wallet)
        wallet = await self.owner.fetchrow("SELECT balance, seq FROM accounts WHERE id = $1", account)
        assert tuple(wallet or ()) == (balance, 1 if balance else 0)
        assert await lies(self.owner) == []
        held = (
            "SELECT coalesce(sum(p.amount), 0)::bigint FROM provider_payments p "
            "JOIN top_ups t ON t.id = p.top_up_id WHERE t.wallet_id = $1 AND p.held_because <> ''"
        )
        assert await self.owner.fetchval(held, account) == review


@pytest.fixture
async def victim(hurt_stack: Stack) -> AsyncIterator[Victim]:
    await parts.well(hurt_stack, within=60)
    owner = await asyncpg.connect(hurt_stack.addresses.database("payment", owner=True))
    try:
        async with Clients.of(hurt_stack) as clients:
            person = await clients.register()
            found = Victim(hurt_stack, clients, person, "", owner)
            # The one of the test before may have died a moment ago.
            body = {"currency": "THB", "request_id": str(uuid.uuid4())}
            made = await found.until_answered("POST", "/v1/wallets", body)
            yield replace(found, wallet=made.body["id"])
    finally:
        await owner.close()


async def fired(folder: Path, name: str) -> int:
    """How often a fault fired. What follows a commit does so a moment after it can be seen."""
    return faults.read(folder, name).fired


@pytest.mark.parametrize("moment", MOMENTS)
async def test_what_was_asked_for_is_asked_for_once(victim: Victim, folder: Path, moment: str) -> None:
    request_id, pid = str(uuid.uuid4()), parts.pid_of(victim.stack, PROCESS)
    with armed(folder, f"payment.create_top_up.{moment}", "kill"):
        made = await victim.asked(request_id)
    assert (await victim.asked(request_id)).raw == made.raw
    count = "SELECT count(*) FROM top_ups WHERE wallet_id = $1"
    assert await victim.owner.fetchval(count, uuid.UUID(victim.wallet)) == 1
    assert await parts.another(victim.stack, PROCESS, pid) != pid


# The first pass is the question whether the money may be taken, the second the news that it was.
@pytest.mark.parametrize(
    "passed", [pytest.param(0, marks=pytest.mark.long, id="started"), pytest.param(1, id="completed")]
)
@pytest.mark.parametrize("point", ["verified", *MOMENTS])
async def test_what_the_bank_took_is_credited_once(
    victim: Victim, folder: Path, point: str, passed: int
) -> None:
    made = (await victim.asked()).body
    with armed(folder, f"payment.receive.{point}", "kill", skip=passed):
        said = await victim.pay(made["qr_payload"])
    assert said["callbacks"][-1]["outcome"] == "credited"
    assert await victim.status(made["id"]) == "completed"
    await victim.check(AMOUNT)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("verified", marks=pytest.mark.long),
        "before_commit",
        pytest.param("after_commit", marks=pytest.mark.long),
    ],
)
async def test_a_wrong_amount_is_held_once(victim: Victim, folder: Path, point: str) -> None:
    made = (await victim.asked()).body
    with armed(folder, f"payment.receive.{point}", "kill", skip=1):
        said = await victim.pay(made["qr_payload"], "--amount", "1")
    assert said["callbacks"][-1]["outcome"] == "review"
    assert await victim.status(made["id"]) == "review"
    await victim.check(0, review=1)


async def test_a_commit_whose_connection_is_cut_is_credited_once(victim: Victim, folder: Path) -> None:
    made = (await victim.asked()).body
    with armed(folder, "payment.receive.before_commit", "close_connection", skip=1):
        await victim.pay(made["qr_payload"])
    await victim.check(AMOUNT)


@pytest.mark.parametrize(
    "point",
    [
        "payment.lease_top_ups.before_commit",
        "payment.lease_top_ups.after_commit",
        "payment.sweep.asked",
        # Fired on the way of the bank's news, too.
        pytest.param("payment.receive.verified", marks=pytest.mark.long),
        pytest.param("payment.receive.before_commit", marks=pytest.mark.long),
        pytest.param("payment.receive.after_commit", marks=pytest.mark.long),
    ],
)
async def test_a_sweeper_that_dies_leaves_it_to_the_next(victim: Victim, folder: Path, point: str) -> None:
    made = (await victim.asked()).body
    # The bank asks, takes the money, and never tells: its question is the first pass of `receive`.
    with armed(folder, point, "kill", skip=1 if ".receive." in point else 0):
        await victim.pay(made["qr_payload"], "--time-out")
        await until(lambda: victim.status(made["id"]), "completed", within=WITHIN)
        await until(lambda: fired(folder, point), 1, within=WITHIN)
    await victim.check(AMOUNT)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_what_nobody_pays_expires_once(victim: Victim, folder: Path, moment: str) -> None:
    made = (await victim.asked()).body
    with armed(folder, f"payment.expire_top_up.{moment}", "kill"):
        await victim.owner.execute(
            "UPDATE top_ups SET expires_at = now() - interval '1 hour', look_at = now() WHERE id = $1",
            uuid.UUID(made["id"]),
        )
        await until(lambda: victim.status(made["id"]), "expired", within=WITHIN)
        await until(lambda: fired(folder, f"payment.expire_top_up.{moment}"), 1, within=WITHIN)
    found = await victim.until_answered("GET", f"/v1/transactions/topup/{made['id']}")
    assert [(one["status"], one["by"]) for one in found.body["history"]] == [
        ("pending", "customer"),
        ("expired", "sweeper"),
    ]
    refused = await asyncio.to_thread(victim.stack.command, "bank", "pay", made["qr_payload"])
    assert refused.returncode == 1
    assert "QR_EXPIRED" in refused.stderr
    await victim.check(0)


@pytest.mark.long
async def test_payment_is_away_and_the_bank_has_the_money(victim: Victim, folder: Path) -> None:
    made = (await victim.asked()).body
    # Nobody hears the news, however often they are told, until the bank gives up.
    with armed(folder, "payment.receive.verified", "kill", skip=1):
        said = await victim.pay(made["qr_payload"], "--patience", "0")
    assert said["callbacks"][-1]["status"] in {0, 503}
    await until(lambda: victim.status(made["id"]), "completed", within=WITHIN)
    await victim.check(AMOUNT)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_what_the_operator_decides_is_done_once(victim: Victim, folder: Path, moment: str) -> None:
    made = (await victim.asked()).body
    said = await victim.pay(made["qr_payload"], "--amount", "7")

    async def resolve() -> str:
        command = ("payment", "resolve", said["payment_id"], "credit")
        done = await asyncio.to_thread(victim.stack.command, *command)
        return "done" if done.returncode == 0 else done.stderr

    pid = parts.pid_of(victim.stack, PROCESS)
    with armed(folder, f"payment.resolve_payment.{moment}", "kill"):
        assert await resolve() != "done"
    assert await parts.another(victim.stack, PROCESS, pid) != pid
    await parts.well(victim.stack, within=60)
    async with asyncio.timeout(WITHIN):
        while "does not answer" in (again := await resolve()):
            pass
    assert again == "done" if moment == "before_commit" else "decided about before" in again
    assert await victim.status(made["id"]) == "completed"
    assert await lies(victim.owner) == []
    balance = "SELECT balance FROM accounts WHERE id = $1"
    assert await victim.owner.fetchval(balance, uuid.UUID(victim.wallet)) == 7


async def test_after_all_of_it_the_books_are_clean(victim: Victim) -> None:
    done = await asyncio.to_thread(victim.stack.command, "payment", "reconcile")
    assert done.returncode == 0, done.stdout
