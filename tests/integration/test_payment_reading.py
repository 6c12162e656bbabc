"""Looking back: lists with filters and pages, one transaction with its trail, statements."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import AsyncIterator

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sampan.payment.v1 import payment_service_pb2 as pb
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.money import fund
from tests.support.payment import Payer, Payers, payers


@pytest.fixture(scope="module")
async def people(payment: tuple[App, str], payment_database: Clone, pki: Pki) -> AsyncIterator[Payers]:
    async with payers(*payment, payment_database, pki) as found:
        yield found


async def all_of(person: Payer, limit: int = 3, **fields: str) -> list[str]:
    """Ids on all pages."""
    found: list[str] = []
    token = ""
    while True:
        page = await person.transactions(limit=limit, page_token=token, **fields)
        found += [one.id for one in page.transactions]
        assert len(page.transactions) <= limit
        assert page.has_more == bool(page.next_page_token)
        token = page.next_page_token
        if not token:
            return found


async def test_all_wallets_are_listed_newest_first_page_by_page(people: Payers) -> None:
    one, baht = await people.rich(1_000)
    dollars = await one.wallet("SGD")
    await fund(people.owner, dollars.id, 1_000)
    other, to = await people.rich(1_000)
    await other.wallet("SGD")
    made = []
    for place in range(5):
        made.append((await one.send(baht, other.id, 1)).id)
        made.append((await one.send(dollars, other.id, 1)).id)
        made.append((await other.send(to, one.id, 1)).id)
        assert len(await all_of(one)) == 2 + 3 * (place + 1)
    newest_first = made[::-1]
    assert (await all_of(one))[: len(made)] == newest_first
    assert (await all_of(one, limit=100))[: len(made)] == newest_first
    assert await all_of(one, kind="send") == newest_first
    assert len(await all_of(one, kind="topup")) == 2
    assert (await all_of(one, wallet_id=dollars.id))[:-1] == made[1::3][::-1]
    # What comes while one reads moves no page.
    first = await one.transactions(limit=4)
    await one.send(baht, other.id, 1)
    then = await one.transactions(limit=4, page_token=first.next_page_token)
    assert [found.id for found in (*first.transactions, *then.transactions)] == newest_first[:8]


async def test_both_sides_see_a_payment_as_theirs(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, to = await people.rich(5)
    sent = await one.send(wallet, other.id, 100, description="for the batik")
    mine, theirs = await one.transaction(sent.id), await other.transaction(sent.id)
    assert (mine.direction, mine.wallet_id, mine.balance_after) == ("out", wallet.id, 900)
    assert (theirs.direction, theirs.wallet_id, theirs.balance_after) == ("in", to.id, 105)
    for seen in (mine, theirs):
        assert (seen.sender_id, seen.recipient_id, seen.amount) == (one.id, other.id, 100)
        assert seen.description == "for the batik"
        assert [(entry.event, entry.actor) for entry in seen.audit] == [("posted", one.id)]
    assert await reason(people.new().transaction(sent.id)) == "TRANSACTION_NOT_FOUND"
    assert await reason(one.transaction(str(uuid.uuid4()))) == "TRANSACTION_NOT_FOUND"


async def test_a_time_bounds_what_is_listed(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, _ = await people.rich(0)
    sent = [await one.send(wallet, other.id, 1) for _ in range(6)]

    async def between(first: Timestamp | None, last: Timestamp | None) -> list[str]:
        page = await one.transactions(from_time=first, to_time=last, kind="send")
        return [found.id for found in page.transactions][::-1]

    ids = [one.id for one in sent]
    assert await between(sent[2].created_at, None) == ids[2:]
    assert await between(None, sent[2].created_at) == ids[:2]
    assert await between(sent[1].created_at, sent[4].created_at) == ids[1:4]
    assert await between(sent[4].created_at, sent[1].created_at) == []


async def test_a_list_of_a_wallet_is_for_its_owner_and_a_token_for_its_list(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, to = await people.rich(0)
    for _ in range(3):
        await one.send(wallet, other.id, 1)
    token = (await one.transactions(limit=1)).next_page_token
    assert await reason(one.transactions(wallet_id=to.id)) == "WALLET_NOT_FOUND"
    for wrong in (
        one.transactions(limit=1, page_token=token, kind="send"),
        other.transactions(limit=1, page_token=token),
        one.transactions(page_token="x"),
        one.transactions(limit=101),
        one.transactions(kind="fee"),
    ):
        assert await reason(wrong) == "INVALID_ARGUMENT"
    assert (await people.new().transactions()).transactions == []


async def lines(person: Payer, wallet_id: str, **fields: Timestamp) -> list[dict[str, str]]:
    """A statement, read by somebody else's reader."""
    request = pb.GetStatementRequest(wallet_id=wallet_id, **fields)
    body = await person.ask("GetStatement", request)
    assert body.content_type == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(body.data.decode(), newline="")))


async def test_a_statement_adds_up(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, to = await people.rich(50)
    sent = [await one.send(wallet, other.id, amount, description=f'"{amount}", ผ้า') for amount in (10, 20)]
    await other.send(to, one.id, 5, description="=HYPERLINK(1)")
    found = await lines(one, wallet.id)
    assert [line["kind"] for line in found] == ["topup", "send", "send", "send"]
    assert [int(line["amount"]) for line in found] == [1_000, -10, -20, 5]
    assert [int(line["balance_after"]) for line in found] == [1_000, 990, 970, 975]
    assert [line["counterparty_id"] for line in found] == ["", other.id, other.id, other.id]
    assert [line["description"] for line in found] == ["", '"10", ผ้า', '"20", ผ้า', "'=HYPERLINK(1)"]
    assert [line["transaction_id"] for line in found[1:3]] == [one.id for one in sent]
    part = await lines(one, wallet.id, from_time=sent[0].created_at, to_time=sent[1].created_at)
    assert [line["transaction_id"] for line in part] == [sent[0].id]
    assert await reason(lines(other, wallet.id)) == "WALLET_NOT_FOUND"


async def test_a_description_goes_with_the_key_of_its_writer(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, _ = await people.rich(0)
    sent = await one.send(wallet, other.id, 10, description="a secret")
    await people.owner.execute("DELETE FROM person_keys WHERE user_id = $1", uuid.UUID(one.id))
    seen = await other.transaction(sent.id)
    assert (seen.amount, seen.description) == (10, "")
