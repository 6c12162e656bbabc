"""Holds of services: under ids of their own, once; what is released before it comes never comes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sampan.payment.v1 import hold_pb2
from sampan.payment.v1 import payment_internal_service_pb2 as internal
from sampan.payment.v1 import payment_service_pb2 as people_pb
from sampan.payment.v1 import service_hold_pb2 as pb
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.money import lies
from tests.support.payment import Payer, Payers, payers
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def people(payment: tuple[App, str], payment_database: Clone, pki: Pki) -> AsyncIterator[Payers]:
    async with payers(*payment, payment_database, pki) as found:
        yield found
        assert await lies(found.owner) == []


class Saga:
    """A purchase of somebody's, as commerce pays it."""

    def __init__(self, people: Payers, sender: Payer, recipient: Payer) -> None:
        self.stub = people.settling
        self.hold_id = str(uuid.uuid4())
        self.sender = sender
        self.recipient = recipient

    async def place(self, amount: int = 100, **fields: Any) -> hold_pb2.Hold:
        given = {"hold_id": self.hold_id, "sender_id": self.sender.id, "recipient_id": self.recipient.id}
        request = pb.PlaceHoldRequest(**{**given, "amount": amount, "currency": "THB", **fields})
        answer: pb.PlaceHoldResponse = await self.stub.PlaceHold(request)
        return answer.hold

    async def settle(self, amount: int = 0, **fields: Any) -> pb.SettleHoldResponse:
        request = pb.SettleHoldRequest(hold_id=self.hold_id, amount=amount, **fields)
        answer: pb.SettleHoldResponse = await self.stub.SettleHold(request)
        return answer

    async def release(self, **fields: Any) -> hold_pb2.Hold:
        answer: pb.ReleaseHoldResponse = await self.stub.ReleaseHold(
            pb.ReleaseHoldRequest(hold_id=self.hold_id, **fields)
        )
        return answer.hold


async def begun(people: Payers, amount: int = 1_000) -> tuple[Saga, str, str]:
    """A saga, and the wallets of its two people."""
    one, wallet = await people.rich(amount)
    other, to = await people.rich(0)
    return Saga(people, one, other), wallet.id, to.id


async def test_a_hold_has_the_id_that_the_service_chose_and_is_there_once(people: Payers) -> None:
    saga, wallet, _ = await begun(people)
    holds = await asyncio.gather(*(saga.place() for _ in range(20)))
    assert {hold.SerializeToString() for hold in holds} == {holds[0].SerializeToString()}
    assert (holds[0].id, holds[0].status, holds[0].remaining) == (saga.hold_id, "pending", 100)
    assert (await saga.sender.get(wallet)).held == 100


@pytest.mark.parametrize("field", ["amount", "sender_id", "recipient_id", "currency"])
async def test_another_hold_under_the_same_id_is_refused(people: Payers, field: str) -> None:
    saga, wallet, _ = await begun(people)
    other, _, _ = await begun(people)
    await saga.place()
    await saga.sender.wallet("SGD")
    values = {
        "amount": 101,
        "sender_id": other.sender.id,
        "recipient_id": other.recipient.id,
        "currency": "SGD",
    }
    assert await reason(saga.place(**{field: values[field]})) == "HOLD_EXISTS"
    assert (await saga.sender.get(wallet)).held == 100


async def test_a_hold_is_paid_in_parts_and_the_rest_let_go_of(people: Payers) -> None:
    saga, wallet, to = await begun(people)
    await saga.place()
    first = await saga.settle(30)
    assert (first.hold.captured, first.hold.remaining) == (30, 70)
    assert await reason(saga.settle(71)) == "CAPTURE_EXCEEDED"
    last = await saga.settle(20, final=True)
    assert (last.hold.status, last.hold.captured) == ("captured", 50)
    seen = await saga.recipient.transaction(last.transaction_id)
    assert (seen.kind, seen.amount, seen.refers_to) == ("capture", 20, saga.hold_id)
    assert (await saga.recipient.get(to)).balance == 50
    now = await saga.sender.get(wallet)
    assert (now.balance, now.held) == (950, 0)


async def test_a_repeated_step_is_answered_as_it_was_whatever_came_after(people: Payers) -> None:
    saga, _, _ = await begun(people)
    place, settle = str(uuid.uuid4()), str(uuid.uuid4())
    placed = await saga.place(request_id=place)
    settled = await saga.settle(30, request_id=settle)
    released = await saga.release()
    assert (released.status, released.captured) == ("voided", 30)
    assert await saga.place(request_id=place) == placed
    assert await saga.settle(30, request_id=settle) == settled
    assert await reason(saga.settle(31, request_id=settle)) == "REQUEST_ID_REUSED"


async def test_what_is_released_before_it_comes_never_comes(people: Payers) -> None:
    saga, wallet, _ = await begun(people)
    gone = await saga.release()
    assert (gone.id, gone.status) == (saga.hold_id, "voided")
    assert await saga.release() == gone
    assert await reason(saga.place()) == "HOLD_CLOSED"
    assert await reason(saga.settle()) == "HOLD_NOT_FOUND"
    assert (await saga.sender.get(wallet)).held == 0
    # People do not see what never was.
    seen = people_pb.GetHoldRequest(id=saga.hold_id)
    assert await reason(saga.sender.ask("GetHold", seen)) == "HOLD_NOT_FOUND"


async def test_a_hold_and_its_release_at_once_leave_nothing_held(people: Payers) -> None:
    sagas = [await begun(people) for _ in range(20)]
    await asyncio.gather(
        *(step for saga, _, _ in sagas for step in (saga.place(), saga.release())), return_exceptions=True
    )
    for saga, wallet, _ in sagas:
        assert (await saga.sender.get(wallet)).held == 0
        assert await reason(saga.place()) == "HOLD_CLOSED"


async def test_what_was_paid_cannot_be_released_and_what_was_released_not_be_paid(people: Payers) -> None:
    paid, _, _ = await begun(people)
    await paid.place()
    await paid.settle()
    assert await reason(paid.release()) == "HOLD_CLOSED"
    free, _, _ = await begun(people)
    await free.place()
    await free.release()
    assert await reason(free.settle()) == "HOLD_CLOSED"
    assert await reason(free.place()) == "HOLD_CLOSED"


async def test_the_people_of_a_hold_of_a_service_see_it_and_leave_it_alone(people: Payers) -> None:
    saga, wallet, _ = await begun(people)
    await saga.place()
    for person in (saga.sender, saga.recipient):
        seen = await person.ask("GetHold", people_pb.GetHoldRequest(id=saga.hold_id))
        assert (seen.id, seen.remaining) == (saga.hold_id, 100)
        assert await reason(person.capture(saga.hold_id)) == "PERMISSION_DENIED"
        assert await reason(person.void(saga.hold_id)) == "PERMISSION_DENIED"
    assert (await saga.sender.get(wallet)).held == 100


async def test_a_service_has_nothing_to_do_with_holds_of_people(people: Payers) -> None:
    one, wallet = await people.rich(1_000)
    other, _ = await people.rich(0)
    saga = Saga(people, one, other)
    saga.hold_id = (await one.hold(wallet, other.id, 100)).id
    assert await reason(saga.settle()) == "HOLD_NOT_FOUND"
    assert await reason(saga.release()) == "HOLD_NOT_FOUND"
    assert await reason(saga.place()) == "HOLD_EXISTS"
    assert (await one.get(wallet.id)).held == 100


async def test_what_expired_is_neither_paid_nor_placed_again(people: Payers) -> None:
    saga, wallet, _ = await begun(people)
    await saga.place(expires_in=1)

    async def held() -> int:
        return (await saga.sender.get(wallet)).held

    await until(held, 0, within=20)
    assert await reason(saga.settle()) == "HOLD_EXPIRED"
    assert await reason(saga.place(expires_in=1)) == "HOLD_EXPIRED"
    assert await reason(saga.release()) == "HOLD_EXPIRED"


BAD = {
    "to oneself": ({"recipient_id": "me"}, "SELF_TRANSFER"),
    "more than there is": ({"amount": 1_001}, "INSUFFICIENT_FUNDS"),
    "nothing": ({"amount": 0}, "INVALID_ARGUMENT"),
    "less than nothing": ({"amount": -1}, "INVALID_ARGUMENT"),
    "a currency without a wallet": ({"currency": "SGD"}, "WALLET_NOT_FOUND"),
    "an unknown payer": ({"sender_id": str(uuid.uuid4())}, "WALLET_NOT_FOUND"),
    "an unknown payee": ({"recipient_id": str(uuid.uuid4())}, "RECIPIENT_NOT_FOUND"),
    "no id": ({"hold_id": ""}, "INVALID_ARGUMENT"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_cannot_be_held_is_refused_and_may_be_tried_again(people: Payers, case: str) -> None:
    given, wanted = BAD[case]
    saga, wallet, _ = await begun(people)
    fields: dict[str, Any] = {
        key: saga.sender.id if value == "me" else value for key, value in dict(given).items()
    }
    assert await reason(saga.place(**fields)) == wanted
    assert (await saga.sender.get(wallet)).held == 0
    assert (await saga.place()).status == "pending"


async def test_holds_of_services_count_for_the_daily_limit(people: Payers) -> None:
    saga, _, _ = await begun(people, 2_000_000)
    assert await reason(saga.place(500_001)) == "DAILY_LIMIT_EXCEEDED"
    assert (await saga.place(500_000)).status == "pending"


async def test_who_is_suspended_is_held_nothing_of(people: Payers) -> None:
    saga, _, _ = await begun(people)
    said = internal.SetStandingRequest(user_id=saga.sender.id, suspended=True, version=1)
    await people.internal.SetStanding(said)
    assert await reason(saga.place()) == "ACCOUNT_SUSPENDED"
