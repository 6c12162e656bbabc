"""Paying over a network that fails: what was acknowledged is posted exactly once, and the books stay true."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import grpc
import pytest

from sampan.payment.v1.transaction_pb2 import Transaction
from sampan.payment.v1.wallet_pb2 import Wallet
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support import databases
from tests.support.errors import reason_of
from tests.support.mesh import Minter, serving
from tests.support.money import balance, fund, lies
from tests.support.payment import Payer, Payers, payers
from tests.support.proxy import Cut, Proxy, proxy_before
from tests.support.waiting import until

Outcome = Transaction | str


@dataclass(frozen=True)
class Far:
    """Payment with a network before its database."""

    people: Payers
    network: Proxy

    async def send(self, payer: Payer, wallet: Wallet, to: str, key: str) -> Outcome:
        """A payment of 1, or the reason why there is none."""
        try:
            return await payer.send(wallet, to, 1, key)
        except grpc.aio.AioRpcError as error:
            return reason_of(error)

    async def many(self, payer: Payer, wallet: Wallet, to: str, keys: list[str]) -> dict[str, Outcome]:
        """A payment under each key, at once."""
        answers = await asyncio.gather(*(self.send(payer, wallet, to, key) for key in keys))
        return dict(zip(keys, answers, strict=True))

    async def until_all_are_paid(self, payer: Payer, wallet: Wallet, to: str, keys: list[str]) -> list[str]:
        """Sends what was not acknowledged again; the ids of the transactions."""
        done: dict[str, Outcome] = {}

        async def all_there() -> bool:
            left = [key for key in keys if not isinstance(done.get(key), Transaction)]
            done.update(await self.many(payer, wallet, to, left))
            return all(isinstance(answer, Transaction) for answer in done.values())

        await until(all_there, True, within=30)
        return [answer.id for answer in done.values() if isinstance(answer, Transaction)]


@pytest.fixture
async def far(payment_database: databases.Clone, pki: Pki) -> AsyncIterator[Far]:
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": ["127.0.0.1:1"]})
    async with proxy_before(payment_database.runtime_url) as network:
        url = network.url(payment_database.runtime_url)
        app = await databases.payment_app(
            payment_database, pki, mesh, Minter(), database_url=url, database_timeout=2.0
        )
        async with serving(app, mesh) as address, payers(app, address, payment_database, pki) as people:
            yield Far(people, network)
            network.resume()
            assert await lies(people.owner) == []


def some_keys(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


@pytest.mark.parametrize("answered", [True, False], ids=["after the commit", "before the commit"])
async def test_a_connection_cut_at_the_commit_neither_loses_nor_doubles(far: Far, *, answered: bool) -> None:
    one, wallet = await far.people.rich(1_000)
    other, to = await far.people.rich(0)
    await one.send(wallet, other.id, 1)
    # The batch's statement holds the wallet's id.
    far.network.cut_when = cut = Cut([uuid.UUID(wallet.id).bytes], answered=answered)
    sent = await far.many(one, wallet, other.id, some_keys(20))
    assert cut.done == 1
    assert all(isinstance(answer, Transaction) for answer in sent.values())
    assert await balance(far.people.owner, to.id) == 21
    assert len({answer.id for answer in sent.values() if isinstance(answer, Transaction)}) == 20


async def test_a_payment_without_an_id_that_is_cut_is_posted_once_or_said_to_be_unknown(far: Far) -> None:
    one, wallet = await far.people.rich(1_000)
    other, to = await far.people.rich(0)
    await one.send(wallet, other.id, 1)
    far.network.cut_when = cut = Cut([uuid.UUID(wallet.id).bytes], answered=True)
    assert isinstance(await far.send(one, wallet, other.id, ""), Transaction)
    assert cut.done == 1
    assert await balance(far.people.owner, to.id) == 2


async def test_backends_that_are_ended_again_and_again_lose_nothing(far: Far) -> None:
    one, wallet = await far.people.rich(1_000)
    other, to = await far.people.rich(0)
    stop = asyncio.Event()
    ending = asyncio.create_task(end_backends(far, stop, to.id))
    keys = some_keys(200)
    told: dict[str, Outcome] = {}
    for first in range(0, len(keys), 20):
        told |= await far.many(one, wallet, other.id, keys[first : first + 20])
    stop.set()
    await ending
    refused = {answer for answer in told.values() if isinstance(answer, str)}
    assert refused <= {"UNAVAILABLE", "OUTCOME_UNKNOWN"}
    paid = {answer.id for answer in told.values() if isinstance(answer, Transaction)}
    assert len(paid) <= await balance(far.people.owner, to.id)
    # Sent again with the same ids until each is acknowledged, all of it is there exactly once.
    again = set(await far.until_all_are_paid(one, wallet, other.id, keys))
    assert paid <= again
    assert len(again) == await balance(far.people.owner, to.id) == 200


async def end_backends(far: Far, stop: asyncio.Event, to: str) -> None:
    """Ends the service's server processes again and again until it is told to stop."""
    admin = await asyncpg.connect(far.people.database.admin_url)
    try:
        while not stop.is_set():
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND usename = 'payment'"
            )
            before = await balance(admin, to)
            await asyncio.sleep(0.15)
            # However slow the machine is, something gets through in between.
            while await balance(admin, to) < before + 5 and not stop.is_set():
                await asyncio.sleep(0.01)
    finally:
        await admin.close()


async def test_callers_that_go_away_hurt_nobody(far: Far) -> None:
    one, wallet = await far.people.rich(1_000)
    other, to = await far.people.rich(0)
    calls = [asyncio.ensure_future(far.send(one, wallet, other.id, key)) for key in some_keys(100)]
    gone = calls[::3]
    while not any(call.done() for call in calls):
        await asyncio.sleep(0)
    for call in gone:
        call.cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    paid = [answer for answer in done if isinstance(answer, Transaction)]
    assert len(paid) >= 100 - len(gone)
    # Who went away was paid for, or was not.
    assert len(paid) <= await balance(far.people.owner, to.id) <= 100


async def test_one_poisoned_payment_among_many_fails_alone(far: Far) -> None:
    one = far.people.new()
    wallet = await one.wallet("USD")
    await fund(far.people.owner, wallet.id, 1_000, stripe=1)
    full, other = far.people.new(), far.people.new()
    await fund(far.people.owner, (await full.wallet("USD")).id, 2**63 - 1)
    to = await other.wallet("USD")
    # What would be over 64 bits is an error of the database, found when the whole batch is posted.
    answers = await asyncio.gather(
        *(
            far.send(one, wallet, full.id if place == 17 else other.id, key)
            for place, key in enumerate(some_keys(40))
        )
    )
    assert answers[17] == "INTERNAL"
    assert sum(isinstance(answer, Transaction) for answer in answers) == 39
    assert await balance(far.people.owner, to.id) == 39


async def test_a_database_that_is_away_is_said_so_and_paying_goes_on_when_it_is_back(far: Far) -> None:
    one, wallet = await far.people.rich(1_000)
    other, to = await far.people.rich(0)
    [key] = some_keys(1)
    far.network.refuses = True
    far.network.cut()
    assert await far.send(one, wallet, other.id, key) in {"UNAVAILABLE", "OUTCOME_UNKNOWN"}
    far.network.refuses = False
    assert isinstance(await far.send(one, wallet, other.id, key), Transaction)
    assert await balance(far.people.owner, to.id) == 1
