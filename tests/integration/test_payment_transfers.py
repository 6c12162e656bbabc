"""Transfers of services: a thousand a call, or as many as there are, each with its own result."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable

import pytest

from sampan.payment.v1 import payment_internal_service_pb2 as pb
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.money import balance, lies
from tests.support.payment import Payers, payers


@pytest.fixture(scope="module")
async def people(payment: tuple[App, str], payment_database: Clone, pki: Pki) -> AsyncIterator[Payers]:
    async with payers(*payment, payment_database, pki) as found:
        yield found
        assert await lies(found.owner) == []


def transfer(
    one: str, other: str, amount: int = 1, request_id: str = "", currency: str = "THB"
) -> pb.Transfer:
    return pb.Transfer(
        wallet_id=one, to_wallet_id=other, amount=amount, currency=currency, request_id=request_id
    )


async def call(
    people: Payers, transfers: Iterable[pb.Transfer], request_id: str = ""
) -> list[pb.TransferResult]:
    request = pb.CreateTransfersRequest(transfers=transfers, request_id=request_id)
    return list((await people.settling.CreateTransfers(request)).results)


async def test_a_thousand_transfers_are_posted_in_one_call(people: Payers) -> None:
    (_, one), (_, other) = await people.rich(1_000), await people.rich(0)
    done = await call(people, [transfer(one.id, other.id) for _ in range(1_000)])
    assert len({result.transaction_id for result in done}) == 1_000
    assert [result.balance_after for result in done] == list(range(999, -1, -1))
    assert await balance(people.owner, other.id) == 1_000


async def test_what_is_refused_does_not_keep_the_others_back(people: Payers) -> None:
    (_, one), (_, other) = await people.rich(100), await people.rich(0)
    own = await people.owner.fetchval("SELECT id FROM accounts WHERE kind = 'clearing' LIMIT 1")
    unknown = str(uuid.uuid4())
    done = await call(
        people,
        [
            transfer(one.id, other.id, 60),
            transfer(one.id, other.id, 60),
            transfer(unknown, other.id),
            transfer(one.id, unknown),
            transfer(one.id, one.id),
            transfer(one.id, other.id, currency="SGD"),
            transfer(str(own), other.id),
            transfer(one.id, str(own)),
            transfer(one.id, other.id, 40),
        ],
    )
    assert [result.reason for result in done] == [
        "",
        "INSUFFICIENT_FUNDS",
        "WALLET_NOT_FOUND",
        "RECIPIENT_NOT_FOUND",
        "SELF_TRANSFER",
        "CURRENCY_MISMATCH",
        "WALLET_NOT_FOUND",
        "RECIPIENT_NOT_FOUND",
        "",
    ]
    assert await balance(people.owner, other.id) == 100


async def test_a_call_that_is_repeated_is_answered_the_same_and_moves_nothing(people: Payers) -> None:
    (_, one), (_, other) = await people.rich(100), await people.rich(0)
    request_id, own = str(uuid.uuid4()), str(uuid.uuid4())
    transfers = [transfer(one.id, other.id, 10), transfer(one.id, other.id, 20, own)]
    first = await call(people, transfers, request_id)
    assert await call(people, transfers, request_id) == first
    # The same transfer, in another call.
    assert await call(people, transfers[1:]) == first[1:]
    [refused] = await call(people, [transfer(one.id, other.id, 21, own)])
    assert refused.reason == "REQUEST_ID_REUSED"
    assert await balance(people.owner, other.id) == 30


async def test_the_same_transfer_twice_in_a_call_is_posted_once(people: Payers) -> None:
    (_, one), (_, other) = await people.rich(100), await people.rich(0)
    same = transfer(one.id, other.id, 10, str(uuid.uuid4()))
    first, second = await call(people, [same, same])
    assert first == second
    assert await balance(people.owner, other.id) == 10


async def test_transfers_of_services_know_no_daily_limit(people: Payers) -> None:
    (_, one), (_, other) = await people.rich(900_000), await people.rich(0)
    [done] = await call(people, [transfer(one.id, other.id, 900_000)])
    assert done.reason == ""


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_call_has_from_one_to_a_thousand(people: Payers, count: int) -> None:
    unknown = str(uuid.uuid4())
    given = [transfer(unknown, unknown) for _ in range(count)]
    assert await reason(call(people, given)) == "INVALID_ARGUMENT"


async def test_a_stream_takes_as_many_as_there_are(people: Payers) -> None:
    (_, one), (_, other) = await people.rich(2_400), await people.rich(0)
    ids = [str(uuid.uuid4()) for _ in range(2_500)]

    async def stream() -> AsyncIterator[pb.StreamTransfersRequest]:
        for request_id in ids:
            yield pb.StreamTransfersRequest(transfer=transfer(one.id, other.id, 1, request_id))

    done = await people.settling.StreamTransfers(stream())
    assert (done.posted, done.refused, len(done.refusals)) == (2_400, 100, 100)
    assert {one.reason for one in done.refusals} == {"INSUFFICIENT_FUNDS"}
    assert {one.request_id for one in done.refusals} <= set(ids)
    # Sent again, it moves nothing more.
    again = await people.settling.StreamTransfers(stream())
    assert (again.posted, again.refused) == (2_400, 100)
    assert await balance(people.owner, other.id) == 2_400


async def test_what_a_stream_brings_must_have_an_id(people: Payers) -> None:
    (_, one), (_, other) = await people.rich(10), await people.rich(0)

    async def stream() -> AsyncIterator[pb.StreamTransfersRequest]:
        yield pb.StreamTransfersRequest(transfer=transfer(one.id, other.id, 1, str(uuid.uuid4())))
        yield pb.StreamTransfersRequest(transfer=transfer(one.id, other.id, 1))

    assert await reason(people.settling.StreamTransfers(stream())) == "INVALID_ARGUMENT"
