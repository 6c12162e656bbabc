"""kill -9 anywhere between a payment and its message: both people have it, once."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support import parts
from tests.support.clients import Clients, Person
from tests.support.doors import Reply
from tests.support.faults import armed
from tests.support.money import fund
from tests.support.stack import Stack
from tests.support.waiting import until

# Seconds in which all is as it should be again.
WITHIN = 30


@pytest.fixture
async def people(victim: Stack) -> AsyncIterator[Clients]:
    async with Clients.of(victim) as found:
        yield found


@pytest.fixture
async def owner(victim: Stack) -> AsyncIterator[asyncpg.Connection]:
    """Payment's database."""
    connection = await asyncpg.connect(victim.addresses.database("payment", owner=True))
    yield connection
    await connection.close()


class Payer:
    """REST calls of one person."""

    def __init__(self, people: Clients, person: Person) -> None:
        self.people = people
        self.id = person.id
        self.token = person.token

    async def ask(self, verb: str, path: str, body: Any = None) -> Reply:
        """The same call until it is neither lost nor UNAVAILABLE."""
        replies: list[Reply] = []

        async def answered() -> bool:
            try:
                replies.append(await self.people.rest.call(verb, path, body, token=self.token))
            except httpx.TransportError:
                return False
            return replies[-1].code not in {503, 504}

        await until(answered, wanted=True, within=WITHIN)
        return replies[-1]

    async def wallet(self) -> str:
        """A new wallet."""
        return str((await self.ask("POST", "/v1/wallets", {"currency": "THB"})).body["id"])

    async def payments(self) -> list[str]:
        """The transactions that their dialogs tell of."""
        found = []
        for dialog in (await self.ask("GET", "/v1/dialogs")).body["dialogs"]:
            listed = await self.ask("GET", f"/v1/dialogs/{dialog['id']}/messages?limit=100")
            found += [one for one in listed.body["messages"] if one["type"] == "payment"]
        return sorted(one["content"]["payment"]["transaction_id"] for one in found)


async def two(victim: Stack, people: Clients, owner: asyncpg.Connection) -> tuple[Payer, Payer, str]:
    """Two people with wallets, and that of the first, which has money; all is well before."""
    await parts.well(victim, within=WITHIN)
    one, other = [Payer(people, await people.register()) for _ in range(2)]
    mine = await one.wallet()
    await other.wallet()
    await fund(owner, mine, 10_000)
    await settled(victim, owner)
    return one, other, mine


async def settled(victim: Stack, owner: asyncpg.Connection) -> None:
    """Until everything that identity and payment have told is consumed."""
    identity, notification, messaging = [
        await asyncpg.connect(victim.addresses.database(name, owner=True))
        for name in ("identity", "notification", "messaging")
    ]

    async def left() -> int:
        waiting = 0
        for source, subject, consumer in (
            (owner, "sampan.payment.transfers.sent", messaging),
            (identity, "sampan.identity.session.created", notification),
        ):
            told = await source.fetch("SELECT id FROM outbox WHERE subject = $1", subject)
            known = await consumer.fetch("SELECT event_id FROM inbox")
            waiting += len({row[0] for row in told} - {row[0] for row in known})
            waiting += await source.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL")
        return waiting

    try:
        await until(left, 0, within=WITHIN)
    finally:
        for one in (identity, notification, messaging):
            await one.close()


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("relay.after_publish", marks=pytest.mark.long),
        "messaging.post_notice.before_commit",
        "messaging.post_notice.after_commit",
        "messaging.send.before_commit",
        "messaging.send.after_commit",
        pytest.param("consumer.after_effect", marks=pytest.mark.long),
        "consumer.after_commit",
    ],
)
async def test_a_kill_on_the_way_leaves_one_message(
    victim: Stack, people: Clients, owner: asyncpg.Connection, folder: Path, point: str
) -> None:
    one, other, mine = await two(victim, people, owner)
    body = {"wallet_id": mine, "recipient_id": other.id, "amount": "1000", "currency": "THB"}
    body["request_id"] = str(uuid.uuid4())
    with armed(folder, point, "kill"):
        done = await one.ask("POST", "/v1/transactions/send", body)
        assert done.code == 201, done
        await until(other.payments, [done.body["id"]], within=WITHIN)
        await settled(victim, owner)
    body["request_id"] = str(uuid.uuid4())
    more = await one.ask("POST", "/v1/transactions/send", body)
    both = sorted([done.body["id"], more.body["id"]])
    await until(one.payments, both, within=WITHIN)
    assert await other.payments() == both


@pytest.mark.parametrize(
    "point", [pytest.param("messaging.send.after_commit", marks=pytest.mark.long), "consumer.after_effect"]
)
async def test_what_is_paid_while_messaging_is_away_is_told_after_also_when_that_is_killed(
    victim: Stack, people: Clients, owner: asyncpg.Connection, folder: Path, point: str
) -> None:
    one, other, mine = await two(victim, people, owner)
    made = []
    with armed(folder, point, "kill"):
        async with parts.away(victim, "chat", "dead"):
            for amount in range(1, 9):
                body = {"wallet_id": mine, "recipient_id": other.id, "amount": str(amount), "currency": "THB"}
                body["request_id"] = str(uuid.uuid4())
                done = await one.ask("POST", "/v1/transactions/send", body)
                assert done.code == 201, done
                made.append(done.body["id"])
        await until(other.payments, sorted(made), within=WITHIN)
        await settled(victim, owner)
    assert await one.payments() == sorted(made)
