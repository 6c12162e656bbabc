"""kill -9 at every point of a payment, hold, capture, void and refund: the same request has one effect."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support import parts
from tests.support.clients import Clients, Person
from tests.support.doors import Reply
from tests.support.faults import armed
from tests.support.money import fund, lies
from tests.support.stack import Stack

PROCESS = "money"
WITHIN = 20


@pytest.fixture
async def people(victim: Stack) -> AsyncIterator[Clients]:
    async with Clients.of(victim) as found:
        yield found


@pytest.fixture
async def owner(victim: Stack) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(victim.addresses.database("payment", owner=True))
    yield connection
    assert await lies(connection) == []
    await connection.close()


class Two:
    """Somebody with money, and somebody who is paid."""

    def __init__(self, clients: Clients, payer: Person, payee: Person, wallet: str) -> None:
        self.clients = clients
        self.payer = payer
        self.payee = payee
        self.wallet = wallet

    def sending(self) -> dict[str, Any]:
        """A payment of 100."""
        return {"wallet_id": self.wallet, "recipient_id": self.payee.id, "amount": "100", "currency": "THB"}

    async def held(self) -> str:
        """The path of a hold of 100."""
        reply = await self.clients.rest.call("POST", "/v1/holds", self.sending(), token=self.payer.token)
        assert reply.code == 201, reply
        return f"/v1/holds/{reply.body['id']}"

    async def paid(self) -> str:
        """The path of a payment of 100."""
        reply = await self.clients.rest.call(
            "POST", "/v1/transactions/send", self.sending(), token=self.payer.token
        )
        assert reply.code == 201, reply
        return f"/v1/transactions/{reply.body['id']}"


async def two(clients: Clients, owner: asyncpg.Connection) -> Two:
    payer, payee = await clients.register(), await clients.register()
    wallets = []
    for person in (payer, payee):
        reply = await clients.rest.call("POST", "/v1/wallets", {"currency": "THB"}, token=person.token)
        assert reply.code == 201, reply
        wallets.append(reply.body["id"])
    await fund(owner, wallets[0], 1_000)
    return Two(clients, payer, payee, wallets[0])


Prepared = tuple[str, dict[str, Any], Person]


async def send(given: Two) -> Prepared:
    return "/v1/transactions/send", given.sending(), given.payer


async def hold(given: Two) -> Prepared:
    return "/v1/holds", given.sending(), given.payer


async def capture(given: Two) -> Prepared:
    return f"{await given.held()}/capture", {"amount": "60", "final": True}, given.payee


async def void(given: Two) -> Prepared:
    return f"{await given.held()}/void", {}, given.payee


async def refund(given: Two) -> Prepared:
    return f"{await given.paid()}/refunds", {"amount": "40"}, given.payee


# By step: the request, and what the payer then has, has reserved, and has been paid back.
STEPS: dict[str, tuple[Callable[[Two], Awaitable[Prepared]], tuple[int, int]]] = {
    "post": (send, (900, 0)),
    "create_hold": (hold, (1_000, 100)),
    "capture_hold": (capture, (940, 0)),
    "void_hold": (void, (1_000, 0)),
    "refund": (refund, (940, 0)),
}


async def until_answered(clients: Clients, path: str, body: Any, token: str) -> Reply:
    """The first answer that is neither a lost one nor UNAVAILABLE, to the same request again and again."""
    started = time.monotonic()
    while time.monotonic() - started < WITHIN:
        try:
            reply = await clients.rest.call("POST", path, body, token=token)
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        if reply.code not in {503, 504}:
            return reply
        await asyncio.sleep(0.05)
    raise AssertionError("no answer in time")


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_leaves_one_effect(
    victim: Stack, folder: Path, people: Clients, owner: asyncpg.Connection, step: str, moment: str
) -> None:
    prepare, wanted = STEPS[step]
    given = await two(people, owner)
    path, body, person = await prepare(given)
    body = {**body, "request_id": str(uuid.uuid4())}
    pid = parts.pid_of(victim, PROCESS)
    with armed(folder, f"payment.{step}.{moment}", "kill"):
        lost = await people.rest.call("POST", path, body, token=person.token)
        assert lost.code == 503, lost
        done = await until_answered(people, path, body, person.token)
    assert done.code in {200, 201}, done
    again = await people.rest.call("POST", path, body, token=person.token)
    assert (again.code, again.body) == (done.code, done.body)
    assert await parts.another(victim, PROCESS, pid) != pid
    row = await owner.fetchrow("SELECT balance, held FROM accounts WHERE id = $1", uuid.UUID(given.wallet))
    assert tuple(row or ()) == wanted
