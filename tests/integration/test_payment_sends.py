"""Sending money: what moves, what is refused, and that a request has one effect for ever."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest

from sampan.payment.v1 import events_pb2, transaction_pb2
from sampan.payment.v1 import payment_internal_service_pb2 as internal
from services.mesh.app import App
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support import databases
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.mesh import Minter, serving
from tests.support.money import balance, fund, lies
from tests.support.payment import Payer, Payers, payers


@pytest.fixture(scope="module")
async def people(payment: tuple[App, str], payment_database: Clone, pki: Pki) -> AsyncIterator[Payers]:
    async with payers(*payment, payment_database, pki) as found:
        yield found
        assert await lies(found.owner) == []


async def test_a_payment_moves_money_to_the_recipients_wallet(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, to = await people.rich(0)
    sent = await one.send(wallet, other.id, 300, description="for the batik ผ้า")
    assert (sent.kind, sent.status, sent.direction) == ("send", "completed", "out")
    assert (sent.amount, sent.currency, sent.fee, sent.balance_after) == (300, "THB", 0, 700)
    assert (sent.sender_id, sent.recipient_id, sent.wallet_id) == (one.id, other.id, wallet.id)
    assert sent.description == "for the batik ผ้า"
    now = await one.get(wallet.id)
    assert (now.balance, now.available, now.limits.spent_today) == (700, 700, 300)
    assert (await other.get(to.id)).balance == 300


async def test_of_200_parallel_spends_as_many_succeed_as_the_balance_covers(people: Payers) -> None:
    one, wallet = await people.rich(730)
    other, to = await people.rich(0)
    done = await asyncio.gather(*(one.send(wallet, other.id, 10) for _ in range(200)), return_exceptions=True)
    sent = [answer for answer in done if isinstance(answer, transaction_pb2.Transaction)]
    assert len(sent) == 73
    assert sorted(answer.balance_after for answer in sent) == list(range(0, 730, 10))
    refused = {await reason(_raise(error)) for error in done if isinstance(error, BaseException)}
    assert refused == {"INSUFFICIENT_FUNDS"}
    assert (await balance(people.owner, wallet.id), await balance(people.owner, to.id)) == (0, 730)


async def _raise(error: BaseException) -> None:
    raise error


async def test_money_that_comes_in_can_be_sent_on_in_the_same_batch(people: Payers) -> None:
    chain = [await people.rich(100 if place == 0 else 0) for place in range(8)]

    async def pass_on(place: int) -> None:
        (one, wallet), (other, _) = chain[place], chain[place + 1]
        while True:
            try:
                await one.send(wallet, other.id, 100)
            except grpc.aio.AioRpcError as error:
                assert await reason(_raise(error)) == "INSUFFICIENT_FUNDS"
            else:
                return

    await asyncio.gather(*(pass_on(place) for place in range(7)))
    assert [await balance(people.owner, wallet.id) for _, wallet in chain] == [0] * 7 + [100]


async def test_fifty_equal_requests_have_one_effect_and_one_answer(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, _ = await people.rich(0)
    request_id = str(uuid.uuid4())
    answers = await asyncio.gather(
        *(one.send(wallet, other.id, 100, request_id, description="rent") for _ in range(50))
    )
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
    assert await balance(people.owner, wallet.id) == 900
    # Whatever happens later, the answer stays.
    await one.send(wallet, other.id, 50)
    again = await one.send(wallet, other.id, 100, request_id.upper(), description="rent")
    assert again == answers[0]


async def test_an_id_with_other_input_is_refused_also_a_month_later(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    (other, _), (third, _) = await people.rich(0), await people.rich(0)
    request_id = str(uuid.uuid4())
    first = await one.send(wallet, other.id, 100, request_id, description="rent")
    for age in ("0 days", "31 days", "400 days"):
        await people.owner.execute(
            "UPDATE requests SET created_at = created_at - $1::text::interval WHERE transaction_id = $2",
            age,
            uuid.UUID(first.id),
        )
        assert await reason(one.send(wallet, other.id, 101, request_id)) == "REQUEST_ID_REUSED"
        assert await reason(one.send(wallet, third.id, 100, request_id)) == "REQUEST_ID_REUSED"
        assert (
            await reason(one.send(wallet, other.id, 100, request_id, description="loan"))
            == "REQUEST_ID_REUSED"
        )
        assert (await one.send(wallet, other.id, 100, request_id, description="rent")).id == first.id
    assert await balance(people.owner, wallet.id) == 900


async def test_the_same_id_of_somebody_else_is_another_request(people: Payers) -> None:
    (one, wallet), (two, purse), (other, to) = [await people.rich(100) for _ in range(3)]
    request_id = str(uuid.uuid4())
    await asyncio.gather(
        one.send(wallet, other.id, 10, request_id), two.send(purse, other.id, 10, request_id)
    )
    assert await balance(people.owner, to.id) == 120


async def test_one_id_for_two_wallets_at_once_pays_from_one(people: Payers) -> None:
    one, baht = await people.rich(1_000)
    dollars = await one.wallet("SGD")
    other, _ = await people.rich(0)
    await other.wallet("SGD")
    await fund(people.owner, dollars.id, 1_000)
    for _ in range(10):
        request_id = str(uuid.uuid4())
        done = await asyncio.gather(
            one.send(baht, other.id, 10, request_id),
            one.send(dollars, other.id, 10, request_id),
            return_exceptions=True,
        )
        failed = [error for error in done if isinstance(error, BaseException)]
        assert [await reason(_raise(error)) for error in failed] == ["REQUEST_ID_REUSED"]
    left = await balance(people.owner, baht.id) + await balance(people.owner, dollars.id)
    assert left == 2_000 - 100


BAD = {
    "to oneself": ({"recipient_id": "me"}, "SELF_TRANSFER"),
    "nothing": ({"amount": 0}, "INVALID_ARGUMENT"),
    "less than nothing": ({"amount": -5}, "INVALID_ARGUMENT"),
    "over the most": ({"amount": 1_000_000_000_000_001}, "INVALID_ARGUMENT"),
    "all there can be": ({"amount": 2**63 - 1}, "INVALID_ARGUMENT"),
    "more than there is": ({"amount": 1_001}, "INSUFFICIENT_FUNDS"),
    "another currency": ({"currency": "SGD"}, "CURRENCY_MISMATCH"),
    "no currency": ({"currency": "baht"}, "INVALID_ARGUMENT"),
    "an unknown wallet": ({"wallet_id": str(uuid.uuid4())}, "WALLET_NOT_FOUND"),
    "somebody else's wallet": ({"wallet_id": "theirs"}, "WALLET_NOT_FOUND"),
    "an unknown person": ({"recipient_id": str(uuid.uuid4())}, "RECIPIENT_NOT_FOUND"),
    "a person with no such wallet": ({"recipient_id": "poor"}, "RECIPIENT_NOT_FOUND"),
    "no person": ({"recipient_id": "malee"}, "INVALID_ARGUMENT"),
    "a description with a line break": ({"description": "a\nb"}, "INVALID_ARGUMENT"),
    "a description too long": ({"description": "a" * 281}, "INVALID_ARGUMENT"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_is_wrong_is_refused_with_its_reason_and_moves_nothing(people: Payers, case: str) -> None:
    given, wanted = BAD[case]
    one, wallet = await people.rich(1_000)
    other, to = await people.rich(50)
    poor = people.new()
    await poor.wallet("SGD")
    names = {"me": one.id, "theirs": to.id, "poor": poor.id}
    fields = {key: names.get(str(value), value) for key, value in given.items()}
    amount = fields.pop("amount", 100)
    recipient = fields.pop("recipient_id", other.id)
    assert await reason(one.send(wallet, recipient, amount, **fields)) == wanted
    assert [await balance(people.owner, one.id) for one in (wallet, to)] == [1_000, 50]


async def test_who_is_suspended_neither_sends_nor_gets(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, to = await people.rich(1_000)
    await people.internal.SetStanding(
        internal.SetStandingRequest(user_id=one.id, kyc_tier=1, suspended=True, version=1)
    )
    assert await reason(one.send(wallet, other.id, 1)) == "ACCOUNT_SUSPENDED"
    assert await reason(other.send(to, one.id, 1)) == "RECIPIENT_NOT_FOUND"


async def test_a_day_has_a_limit_in_the_wallets_own_time_zone(people: Payers) -> None:
    one, wallet = await people.rich(2_000_000)
    other, _ = await people.rich(0)
    await one.send(wallet, other.id, 499_990)
    assert await reason(one.send(wallet, other.id, 11)) == "DAILY_LIMIT_EXCEEDED"
    assert (await one.send(wallet, other.id, 10)).balance_after == 1_500_000
    assert await reason(one.send(wallet, other.id, 1)) == "DAILY_LIMIT_EXCEEDED"
    assert (await one.get(wallet.id)).limits.left_today == 0
    await _yesterday(people, wallet.id)
    assert (await one.get(wallet.id)).limits.left_today == 500_000
    await one.send(wallet, other.id, 1)
    assert (await one.get(wallet.id)).limits.spent_today == 1


async def _yesterday(people: Payers, wallet_id: str) -> None:
    """Says that what was spent was spent on the day before, where the wallet is."""
    admin = await asyncpg.connect(people.database.admin_url)
    try:
        # Only so: the owner of the tables could not.
        await admin.execute("SET session_replication_role = replica")
        await admin.execute("UPDATE accounts SET day = day - 1 WHERE id = $1", uuid.UUID(wallet_id))
    finally:
        await admin.close()


async def test_of_parallel_payments_no_more_pass_than_the_limit_allows(people: Payers) -> None:
    one, wallet = await people.rich(2_000_000)
    other, to = await people.rich(0)
    done = await asyncio.gather(
        *(one.send(wallet, other.id, 30_000) for _ in range(40)), return_exceptions=True
    )
    refused = {await reason(_raise(error)) for error in done if isinstance(error, BaseException)}
    assert refused == {"DAILY_LIMIT_EXCEEDED"}
    assert await balance(people.owner, to.id) == 480_000


async def test_a_higher_tier_may_send_more(people: Payers) -> None:
    one, wallet = await people.rich(2_000_000)
    other, _ = await people.rich(0)
    assert await reason(one.send(wallet, other.id, 500_001)) == "DAILY_LIMIT_EXCEEDED"
    await people.internal.SetStanding(internal.SetStandingRequest(user_id=one.id, kyc_tier=1, version=1))
    assert (await one.send(wallet, other.id, 500_001)).balance_after == 1_499_999


async def test_each_payment_is_told_once(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, _ = await people.rich(0)
    request_id = str(uuid.uuid4())
    for _ in range(3):
        sent = await one.send(wallet, other.id, 7, request_id, description="secret")
    [row] = await people.owner.fetch("SELECT * FROM outbox WHERE aggregate_id = $1", uuid.UUID(sent.id))
    assert row["subject"] == "sampan.payment.transfers.sent"
    [told] = events_pb2.TransfersSent.FromString(row["payload"]).transfers
    assert (told.transaction_id, told.sender_id, told.recipient_id) == (sent.id, one.id, other.id)
    assert (told.amount, told.currency) == (7, "THB")
    assert b"secret" not in row["payload"]


async def test_payments_that_are_posted_together_are_told_together(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, _ = await people.rich(0)
    count = "SELECT count(*) FROM outbox"
    before = await people.owner.fetchval(count)
    done = await asyncio.gather(*(one.send(wallet, other.id, 30) for _ in range(60)), return_exceptions=True)
    sent = [answer.id for answer in done if isinstance(answer, transaction_pb2.Transaction)]
    assert len(sent) == 33
    rows = await people.owner.fetch("SELECT payload FROM outbox ORDER BY position")
    told = [
        transfer.transaction_id
        for row in rows
        for transfer in events_pb2.TransfersSent.FromString(row["payload"]).transfers
        if transfer.sender_id == one.id
    ]
    assert sorted(told) == sorted(sent)
    assert await people.owner.fetchval(count) - before < 33


async def test_a_description_lies_sealed_beside_the_ledger(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, _ = await people.rich(0)
    sent = await one.send(wallet, other.id, 7, description="a secret of mine")
    found = await people.owner.fetchval(
        "SELECT sealed FROM notes WHERE transaction_id = $1", uuid.UUID(sent.id)
    )
    assert b"secret" not in found
    assert (
        await people.owner.fetchval(
            "SELECT count(*) FROM notes WHERE transaction_id = $1",
            uuid.UUID((await one.send(wallet, other.id, 7)).id),
        )
        == 0
    )


@pytest.fixture(scope="module")
async def dear(payment_database: Clone, pki: Pki) -> AsyncIterator[Payers]:
    """People of a payment that costs something."""
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": ["127.0.0.1:1"]})
    fees = {"THB": {"fixed": 5, "basis_points": 100}}
    app = await databases.payment_app(payment_database, pki, mesh, Minter(), fees=fees)
    async with serving(app, mesh) as address, payers(app, address, payment_database, pki) as found:
        yield found
        assert await lies(found.owner) == []


async def test_a_fee_is_paid_by_the_sender_besides(dear: Payers) -> None:
    one, wallet = await dear.rich(1_000)
    other, to = await dear.rich(0)
    request_id = str(uuid.uuid4())
    sent = await one.send(wallet, other.id, 500, request_id)
    assert (sent.amount, sent.fee, sent.balance_after) == (500, 10, 490)
    assert [await balance(dear.owner, one.id) for one in (wallet, to)] == [490, 500]
    assert await one.send(wallet, other.id, 500, request_id) == sent
    rows = await dear.owner.fetch("SELECT kind FROM transfers WHERE transaction_id = $1", uuid.UUID(sent.id))
    assert sorted(row["kind"] for row in rows) == ["fee", "send"]
    # 486 and its fee of 10 would be 496.
    assert await reason(one.send(wallet, other.id, 486)) == "INSUFFICIENT_FUNDS"
    assert await dear.owner.fetchval("SELECT sum(balance) FROM accounts WHERE kind = 'fees'") >= 10


async def test_who_is_not_signed_in_sends_nothing(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    nobody = Payer(people.stub, one.id, "")
    assert await reason(nobody.send(wallet, people.new().id, 1)) in {"TOKEN_MISSING", "TOKEN_INVALID"}
