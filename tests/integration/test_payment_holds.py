"""Holds and refunds: what is reserved is there, once, until it is paid, let go of or over; never more."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from sampan.payment.v1 import hold_pb2, transaction_pb2, wallet_pb2
from sampan.payment.v1 import payment_internal_service_pb2 as internal
from sampan.payment.v1 import payment_service_pb2 as pb
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


async def state(payer: Payer, wallet: wallet_pb2.Wallet) -> tuple[int, int, int]:
    """Balance, what is held, and what was spent today."""
    now = await payer.get(wallet.id)
    assert now.available == now.balance - now.held
    return now.balance, now.held, now.limits.spent_today


async def both(
    people: Payers, amount: int = 1_000
) -> tuple[Payer, wallet_pb2.Wallet, Payer, wallet_pb2.Wallet]:
    one, wallet = await people.rich(amount)
    other, to = await people.rich(0)
    return one, wallet, other, to


async def test_a_hold_reserves_and_a_capture_pays(people: Payers) -> None:
    one, wallet, other, to = await both(people)
    hold = await one.hold(wallet, other.id, 400)
    assert (hold.status, hold.amount, hold.captured, hold.remaining) == ("pending", 400, 0, 400)
    assert (hold.sender_id, hold.recipient_id) == (one.id, other.id)
    assert await state(one, wallet) == (1_000, 400, 400)
    assert await reason(one.send(wallet, other.id, 601)) == "INSUFFICIENT_FUNDS"
    done = await other.capture(hold.id)
    assert (done.hold.status, done.hold.captured, done.hold.remaining) == ("captured", 400, 0)
    assert done.hold.HasField("closed_at")
    assert (done.transaction.kind, done.transaction.amount, done.transaction.refers_to) == (
        "capture",
        400,
        hold.id,
    )
    assert (done.transaction.direction, done.transaction.balance_after) == ("in", 400)
    assert await state(one, wallet) == (600, 0, 400)
    assert (await other.get(to.id)).balance == 400


async def test_a_hold_is_captured_in_parts_and_the_rest_let_go_of(people: Payers) -> None:
    one, wallet, other, _ = await both(people)
    hold = await one.hold(wallet, other.id, 400)
    assert (await other.capture(hold.id, 150)).hold.remaining == 250
    assert await state(one, wallet) == (850, 250, 400)
    assert await reason(other.capture(hold.id, 251)) == "CAPTURE_EXCEEDED"
    done = (await one.capture(hold.id, 50, final=True)).hold
    assert (done.status, done.captured, done.remaining) == ("captured", 200, 0)
    # What was let go of may be spent again on the same day.
    assert await state(one, wallet) == (800, 0, 200)
    assert await reason(other.capture(hold.id, 1)) == "HOLD_CLOSED"


async def test_a_void_lets_go_and_is_final(people: Payers) -> None:
    one, wallet, other, _ = await both(people)
    hold = await one.hold(wallet, other.id, 400)
    assert await reason(one.void(hold.id)) == "PERMISSION_DENIED"
    assert (await other.void(hold.id)).status == "voided"
    assert (await other.void(hold.id)).status == "voided"
    assert await state(one, wallet) == (1_000, 0, 0)
    assert await reason(other.capture(hold.id)) == "HOLD_CLOSED"
    captured = await one.hold(wallet, other.id, 10)
    await other.capture(captured.id)
    assert await reason(other.void(captured.id)) == "HOLD_CLOSED"


async def test_a_hold_expires_by_itself(people: Payers) -> None:
    one, wallet, other, _ = await both(people)
    hold = await one.hold(wallet, other.id, 400, expires_in=1)

    async def status() -> str:
        found: hold_pb2.Hold = await one.ask("GetHold", pb.GetHoldRequest(id=hold.id))
        return found.status

    await until(status, "expired", within=20)
    assert await state(one, wallet) == (1_000, 0, 0)
    assert await reason(other.capture(hold.id)) == "HOLD_EXPIRED"
    assert await reason(other.void(hold.id)) == "HOLD_EXPIRED"


async def test_of_parallel_captures_no_more_is_paid_than_was_held(people: Payers) -> None:
    one, wallet, other, to = await both(people)
    hold = await one.hold(wallet, other.id, 100)
    done = await asyncio.gather(*(other.capture(hold.id, 30) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(answer, pb.CaptureHoldResponse) for answer in done) == 3
    assert (await other.get(to.id)).balance == 90
    assert await state(one, wallet) == (910, 10, 100)


async def test_captures_and_voids_and_sends_at_once_keep_the_books(people: Payers) -> None:
    one, wallet, other, to = await both(people, 10_000)
    holds = [await one.hold(wallet, other.id, 100) for _ in range(20)]
    await asyncio.gather(
        *(other.capture(hold.id, 60) for hold in holds),
        *(other.void(hold.id) for hold in holds),
        *(one.send(wallet, other.id, 10) for _ in range(50)),
        *(other.send(to, one.id, 1) for _ in range(50)),
        return_exceptions=True,
    )
    assert await lies(people.owner) == []


BAD = {
    "to oneself": ({"recipient_id": "me"}, "SELF_TRANSFER"),
    "more than there is": ({"amount": 1_001}, "INSUFFICIENT_FUNDS"),
    "nothing": ({"amount": 0}, "INVALID_ARGUMENT"),
    "less than nothing": ({"amount": -1}, "INVALID_ARGUMENT"),
    "another currency": ({"currency": "SGD"}, "CURRENCY_MISMATCH"),
    "an unknown wallet": ({"wallet_id": str(uuid.uuid4())}, "WALLET_NOT_FOUND"),
    "somebody else's wallet": ({"wallet_id": "theirs"}, "WALLET_NOT_FOUND"),
    "an unknown person": ({"recipient_id": str(uuid.uuid4())}, "RECIPIENT_NOT_FOUND"),
    "longer than a month": ({"expires_in": 2_592_001}, "INVALID_ARGUMENT"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_hold_that_cannot_be_is_refused_and_holds_nothing(people: Payers, case: str) -> None:
    given, wanted = BAD[case]
    one, wallet, other, to = await both(people)
    names = {"me": one.id, "theirs": to.id}
    fields = {key: names.get(str(value), value) for key, value in given.items()}
    amount, recipient = fields.pop("amount", 100), fields.pop("recipient_id", other.id)
    assert await reason(one.hold(wallet, recipient, amount, **fields)) == wanted
    assert await state(one, wallet) == (1_000, 0, 0)


async def test_holds_count_for_the_daily_limit(people: Payers) -> None:
    one, wallet, other, _ = await both(people, 2_000_000)
    hold = await one.hold(wallet, other.id, 400_000)
    assert await reason(one.hold(wallet, other.id, 100_001)) == "DAILY_LIMIT_EXCEEDED"
    assert await reason(one.send(wallet, other.id, 100_001)) == "DAILY_LIMIT_EXCEEDED"
    await other.capture(hold.id)
    assert (await one.get(wallet.id)).limits.spent_today == 400_000


async def test_who_is_suspended_holds_nothing_and_pays_nothing(people: Payers) -> None:
    one, wallet, other, _ = await both(people)
    hold = await one.hold(wallet, other.id, 100)
    said = internal.SetStandingRequest(user_id=one.id, kyc_tier=1, suspended=True, version=1)
    await people.internal.SetStanding(said)
    assert await reason(one.hold(wallet, other.id, 1)) == "ACCOUNT_SUSPENDED"
    assert await reason(other.capture(hold.id)) == "ACCOUNT_SUSPENDED"
    assert (await other.void(hold.id)).status == "voided"


async def test_a_hold_is_there_for_its_two_people_only(people: Payers) -> None:
    one, wallet, other, _ = await both(people)
    hold = await one.hold(wallet, other.id, 100)
    stranger = people.new()
    for asked in (
        stranger.ask("GetHold", pb.GetHoldRequest(id=hold.id)),
        stranger.capture(hold.id),
        stranger.void(hold.id),
        one.capture(str(uuid.uuid4())),
    ):
        assert await reason(asked) == "HOLD_NOT_FOUND"
    # Who is paid does not learn from which wallet.
    seen = await other.ask("GetHold", pb.GetHoldRequest(id=hold.id))
    assert (seen.id, seen.wallet_id, hold.wallet_id) == (hold.id, "", wallet.id)


async def test_holds_are_listed_for_both_page_by_page(people: Payers) -> None:
    one, wallet, other, _ = await both(people)
    made = [(await one.hold(wallet, other.id, 1)).id for _ in range(5)]
    await other.void(made[1])
    for person in (one, other):
        first = await person.ask("ListHolds", pb.ListHoldsRequest(limit=3))
        then = await person.ask("ListHolds", pb.ListHoldsRequest(limit=3, page_token=first.next_page_token))
        assert [hold.id for hold in (*first.holds, *then.holds)] == made[::-1]
        assert (first.has_more, then.has_more) == (True, False)
        pending = await person.ask("ListHolds", pb.ListHoldsRequest(status="pending"))
        assert [hold.id for hold in pending.holds] == [made[4], made[3], made[2], made[0]]


async def test_a_refund_gives_back_in_parts_and_never_too_much(people: Payers) -> None:
    one, wallet, other, _ = await both(people)
    sent = await one.send(wallet, other.id, 300)
    back = await other.refund(sent.id, 120)
    assert (back.kind, back.amount, back.direction, back.refers_to) == ("refund", 120, "out", sent.id)
    assert (back.sender_id, back.recipient_id, back.balance_after) == (other.id, one.id, 180)
    assert await reason(other.refund(sent.id, 181)) == "REFUND_EXCEEDED"
    assert (await other.refund(sent.id)).amount == 180
    assert await reason(other.refund(sent.id)) == "REFUND_EXCEEDED"
    assert (await one.get(wallet.id)).balance == 1_000
    seen = await one.transaction(sent.id)
    assert seen.refunded == 300
    assert [entry.event for entry in seen.audit] == ["posted", "refunded", "refunded"]


async def test_of_parallel_refunds_no_more_is_given_back_than_was_paid(people: Payers) -> None:
    one, wallet, other, to = await both(people)
    sent = await one.send(wallet, other.id, 100)
    third, purse = await people.rich(1_000)
    await third.send(purse, other.id, 500)
    done = await asyncio.gather(*(other.refund(sent.id, 30) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(answer, transaction_pb2.Transaction) for answer in done) == 3
    assert (await other.get(to.id)).balance == 510


async def test_a_capture_can_be_refunded_and_a_refund_cannot(people: Payers) -> None:
    one, wallet, other, _ = await both(people)
    paid = (await other.capture((await one.hold(wallet, other.id, 100)).id, 60, final=True)).transaction
    assert await reason(other.refund(paid.id, 61)) == "REFUND_EXCEEDED"
    back = await other.refund(paid.id)
    assert back.amount == 60
    assert await reason(one.refund(back.id)) == "NOT_REFUNDABLE"


async def test_only_who_was_paid_gives_back_and_only_what_they_have(people: Payers) -> None:
    one, wallet, other, to = await both(people)
    sent = await one.send(wallet, other.id, 100)
    assert await reason(one.refund(sent.id)) == "PERMISSION_DENIED"
    assert await reason(people.new().refund(sent.id)) == "TRANSACTION_NOT_FOUND"
    assert await reason(other.refund(str(uuid.uuid4()))) == "TRANSACTION_NOT_FOUND"
    assert await reason(other.refund(sent.id, -1)) == "INVALID_ARGUMENT"
    await other.send(to, one.id, 50)
    assert await reason(other.refund(sent.id, 60)) == "INSUFFICIENT_FUNDS"
    assert (await other.refund(sent.id, 50)).balance_after == 0


async def test_the_trail_of_a_capture_tells_of_its_hold(people: Payers) -> None:
    one, wallet, other, _ = await both(people)
    hold = await one.hold(wallet, other.id, 100)
    paid = (await other.capture(hold.id, 60, final=True)).transaction
    seen = await one.transaction(paid.id)
    told = sorted((entry.event, entry.actor, entry.amount) for entry in seen.audit)
    assert told == [("hold_captured", other.id, 60), ("hold_created", one.id, 100), ("posted", other.id, 60)]
