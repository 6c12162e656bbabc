"""kill -9 on the way of a bill: one effect, one event, and right figures."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support.clients import Clients, Person
from tests.support.doors import Reply
from tests.support.faults import armed
from tests.support.stack import Stack
from tests.support.waiting import until

# Seconds in which all is as it should be again.
WITHIN = 30
PATH = "/v1/payment/transactions"


@pytest.fixture
async def people(victim: Stack) -> AsyncIterator[Clients]:
    async with Clients.of(victim) as found:
        yield found


@pytest.fixture
async def payment(victim: Stack) -> AsyncIterator[asyncpg.Connection]:
    """Payment's database."""
    connection = await asyncpg.connect(victim.addresses.database("payment", owner=True))
    yield connection
    await connection.close()


async def answered(people: Clients, person: Person, path: str, body: dict[str, Any]) -> Reply:
    """The same request until it is neither lost nor UNAVAILABLE."""
    replies: list[Reply] = []

    async def ask() -> bool:
        try:
            replies.append(await people.rest.call("POST", path, body, token=person.token))
        except httpx.TransportError:
            return False
        return replies[-1].code not in {503, 504}

    await until(ask, wanted=True, within=WITHIN)
    return replies[-1]


async def settled(victim: Stack, payment: asyncpg.Connection) -> None:
    """Until all that has happened is told to those who listen, also what identity told."""
    owners = {
        name: await asyncpg.connect(victim.addresses.database(name, owner=True))
        for name in ("identity", "notification", "analytics", "messaging")
    }

    async def left() -> int:
        waiting = 0
        for source, subject, consumer in (
            (payment, "sampan.payment.transaction.%", "analytics"),
            (payment, "sampan.payment.transfer.%", "messaging"),
            (owners["identity"], "sampan.identity.session.created", "notification"),
        ):
            told = await source.fetch("SELECT id FROM outbox WHERE subject LIKE $1", subject)
            known = await owners[consumer].fetch("SELECT event_id FROM inbox")
            waiting += len({row[0] for row in told} - {row[0] for row in known})
        for source in (payment, owners["identity"]):
            waiting += await source.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL")
        return waiting

    try:
        await until(left, 0, within=WITHIN)
    finally:
        await asyncio.gather(*(one.close() for one in owners.values()))


async def figures(people: Clients, person: Person) -> tuple[int, ...]:
    """A person's own statistics; nothing while analytics is away."""
    try:
        reply = await people.rest.call("GET", f"/v1/analytics/users/{person.id}", token=person.token)
    except httpx.TransportError:
        return ()
    names = ("total_transactions", "total_amount", "total_paid_transactions", "events_processed")
    return tuple(int(reply.body[name]) for name in names) if reply.code == 200 else ()


async def new_person(people: Clients) -> Person:
    """Somebody new, as soon as what was killed before is back."""

    async def well() -> int:
        try:
            return (await people.http.get("/healthz")).status_code
        except httpx.TransportError:
            return 0

    await until(well, 200, within=WITHIN)
    return await people.register()


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
async def test_a_bill_whose_answer_is_killed_is_made_once(
    victim: Stack, people: Clients, payment: asyncpg.Connection, folder: Path, moment: str
) -> None:
    person = await new_person(people)
    body = {"amount": "60000", "description": "rent", "request_id": str(uuid.uuid4())}
    with armed(folder, f"payment.create_bill.{moment}", "kill"):
        done = await answered(people, person, PATH, body)
    assert done.code == 201, done
    assert (await answered(people, person, PATH, body)).raw == done.raw
    # Counted once, so that what is left of the cap is left.
    assert (await answered(people, person, PATH, {"amount": "40001"})).reason == "BILL_CAP_EXCEEDED"
    assert (await answered(people, person, PATH, {"amount": "40000"})).code == 201
    await settled(victim, payment)
    assert await figures(people, person) == (2, 100_000, 0, 2)


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
async def test_bills_whose_payment_is_killed_are_paid_once(
    victim: Stack, people: Clients, payment: asyncpg.Connection, folder: Path, moment: str
) -> None:
    person = await new_person(people)
    for amount in ("100", "200"):
        assert (await answered(people, person, PATH, {"amount": amount})).code == 201
    body = {"request_id": str(uuid.uuid4())}
    with armed(folder, f"payment.pay_bills.{moment}", "kill"):
        done = await answered(people, person, f"{PATH}/pay", body)
    assert (done.code, done.body) == (200, {"transactions_paid": 2})
    assert (await answered(people, person, f"{PATH}/pay", body)).body == done.body
    await settled(victim, payment)
    assert await figures(people, person) == (2, 300, 2, 3)


@pytest.mark.parametrize(
    "point",
    [
        # These two are fired on the way of other events, too.
        pytest.param("outbox.before_commit", marks=pytest.mark.long),
        pytest.param("relay.after_publish", marks=pytest.mark.long),
        "consumer.after_effect",
        "consumer.after_commit",
    ],
)
async def test_a_kill_between_a_bill_and_its_figures_counts_it_once(
    victim: Stack, people: Clients, payment: asyncpg.Connection, folder: Path, point: str
) -> None:
    person = await new_person(people)
    await settled(victim, payment)
    body = {"amount": "700", "request_id": str(uuid.uuid4())}
    with armed(folder, point, "kill"):
        assert (await answered(people, person, PATH, body)).code == 201
        await until(lambda: figures(people, person), (1, 700, 0, 1), within=WITHIN)
        await settled(victim, payment)
    assert (await answered(people, person, f"{PATH}/pay", {})).body == {"transactions_paid": 1}
    await until(lambda: figures(people, person), (1, 700, 1, 2), within=WITHIN)
