"""Money that is held for review is decided about once, by the operator."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from sampan.payment.v1 import payment_internal_service_pb2 as internal
from sampan.payment.v1 import payment_service_pb2, transaction_pb2
from sampan.payment.v1 import top_up_pb2 as pb
from services.mesh.database import Database
from services.mesh.idempotency import Idempotency
from services.payment.providers.provider import Notice
from services.payment.reviewing import ReviewService
from services.stack.pki import Pki
from tests.support.banking import Till, till
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.payment import Payer


@pytest.fixture(scope="module")
async def shop(
    payment_database: Clone, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    async with till(payment_database, pki, tmp_path_factory.mktemp("till")) as found:
        yield found


async def held(shop: Till, **change: str) -> tuple[Payer, pb.TopUp, Notice]:
    """Somebody whose bank took another amount, or something else that is not right."""
    who = shop.people.new()
    made = await shop.asked(who)
    paid = shop.notice(made, amount=9_000, **change)
    assert (await shop.tell(paid)).outcome == "review"
    return who, made, paid


async def waiting(shop: Till) -> dict[str, pb.HeldPayment]:
    """What the operator sees, by payment."""
    answer = await shop.people.operating.ListHeldPayments(pb.ListHeldPaymentsRequest(limit=1000))
    return {one.payment_id: one for one in answer.payments}


async def resolve(shop: Till, paid: Notice, decision: str, wallet_id: str = "") -> str:
    """Decides; returns the transaction."""
    request = pb.ResolvePaymentRequest(
        provider="sandbox", payment_id=paid.payment_id, decision=decision, wallet_id=wallet_id
    )
    return str((await shop.people.operating.ResolvePayment(request)).transaction_id)


async def shown(who: Payer, transaction_id: str) -> transaction_pb2.Transaction:
    """A transaction as its owner sees it."""
    found: transaction_pb2.Transaction = await who.stub.GetTransaction(
        payment_service_pb2.GetTransactionRequest(id=transaction_id), metadata=who.metadata
    )
    return found


async def test_the_operator_sees_what_is_held_and_why(shop: Till) -> None:
    who, made, paid = await held(shop)
    found = (await waiting(shop))[paid.payment_id]
    assert (found.reason, found.amount, found.currency) == ("WRONG_AMOUNT", 9_000, "THB")
    assert (found.top_up_id, found.user_id, found.wallet_id) == (made.id, who.id, made.wallet_id)
    assert found.paid_at.ToDatetime() == paid.at.replace(tzinfo=None)


async def test_what_the_operator_credits_is_in_the_wallet(shop: Till) -> None:
    who, made, paid = await held(shop)
    transaction = await shown(who, await resolve(shop, paid, "credit"))
    assert (transaction.kind, transaction.amount, transaction.direction) == ("topup", 9_000, "in")
    assert await shop.balance(who) == 9_000
    found = await shop.seen(who, made.id)
    assert (found.status, found.review_reason, found.history[-1].by) == ("completed", "", "operator")
    assert paid.payment_id not in await waiting(shop)
    await shop.books()


async def test_what_goes_back_is_not_ours_any_more(shop: Till) -> None:
    before = await shop.held_for_review()
    who, made, paid = await held(shop)
    await resolve(shop, paid, "return")
    assert await shop.balance(who) == 0
    assert (await shop.seen(who, made.id)).status == "returned"
    assert await shop.held_for_review() == before
    # The bank says it once more: it was decided about.
    assert (await shop.tell(paid)).repeated_before
    assert await shop.held_for_review() == before
    await shop.books()


async def test_ten_operators_decide_once(shop: Till) -> None:
    who, _, paid = await held(shop)
    decisions = ["credit", "return"] * 5
    answers = await asyncio.gather(*(reason(resolve(shop, paid, one)) for one in decisions))
    assert Counter(answers) == {"": 1, "PAYMENT_RESOLVED": 9}
    assert await shop.balance(who) in {0, 9_000}
    await shop.books()


async def test_a_second_payment_goes_back_and_the_top_up_stays_completed(shop: Till) -> None:
    who = shop.people.new()
    made = await shop.asked(who)
    first, second = shop.notice(made), shop.notice(made)
    await shop.tell(first)
    await shop.tell(second)
    assert (await waiting(shop))[second.payment_id].reason == "PAID_TWICE"
    await resolve(shop, second, "return")
    assert (await shop.seen(who, made.id)).status == "completed"
    assert await shop.balance(who) == made.amount
    assert await reason(resolve(shop, first, "return")) == "PAYMENT_NOT_HELD"


async def test_money_for_nobody_needs_a_wallet_of_its_currency(shop: Till) -> None:
    who, _, paid = await held(shop, reference="STRAY")
    dollars = await who.wallet("USD")
    assert await reason(resolve(shop, paid, "credit")) == "WALLET_NOT_FOUND"
    assert await reason(resolve(shop, paid, "credit", str(uuid.uuid4()))) == "WALLET_NOT_FOUND"
    assert await reason(resolve(shop, paid, "credit", dollars.id)) == "CURRENCY_MISMATCH"
    assert paid.payment_id in await waiting(shop)
    wallet = next(one.id for one in await who.wallets() if one.currency == "THB")
    await resolve(shop, paid, "credit", wallet)
    assert await shop.balance(who) == 9_000
    await shop.books()


async def test_nothing_is_credited_to_a_suspended_account(shop: Till) -> None:
    who, _, paid = await held(shop)
    for suspended, version in ((True, 1), (False, 2)):
        standing = internal.SetStandingRequest(user_id=who.id, suspended=suspended, version=version)
        await shop.people.internal.SetStanding(standing)
        expected = "ACCOUNT_SUSPENDED" if suspended else ""
        assert await reason(resolve(shop, paid, "credit")) == expected


async def test_what_waits_for_a_decision_is_counted(payment_database: Clone, pki: Pki, shop: Till) -> None:
    database = Database(payment_database.runtime_url, pool=1, timeout=4, name="payment")
    review = ReviewService(database, Idempotency(bytes(32)))

    async def counted() -> dict[str, float]:
        return {one.name: one.value for one in await review.observe()}

    try:
        before = await counted()
        _, _, paid = await held(shop)
        assert (await counted())["sampan_payments_held"] == before["sampan_payments_held"] + 1
        assert (await counted())["sampan_payments_held_seconds"] > 0
        await resolve(shop, paid, "return")
        assert (await counted())["sampan_payments_held"] == before["sampan_payments_held"]
    finally:
        await database.close()


async def test_only_the_operator_decides(shop: Till) -> None:
    request = pb.ResolvePaymentRequest(provider="sandbox", payment_id="x", decision="credit")
    assert await reason(shop.people.internal.ResolvePayment(request)) == "CALLER_NOT_ALLOWED"
    assert await reason(shop.people.operating.ResolvePayment(request)) == "PAYMENT_NOT_HELD"
    request.decision = "keep"
    assert await reason(shop.people.operating.ResolvePayment(request)) == "INVALID_ARGUMENT"


async def test_a_top_up_is_a_transaction_from_the_start(shop: Till) -> None:
    who, other = shop.people.new(), shop.people.new()
    made = await shop.asked(who)
    found = await shown(who, made.id)
    assert (found.id, found.kind, found.status, found.amount) == (made.id, "topup", "pending", 10_000)
    assert [one.event for one in found.audit] == ["topup_pending"]
    assert await reason(shown(other, made.id)) == "TRANSACTION_NOT_FOUND"
    await shop.tell(shop.notice(made))
    found = await shown(who, made.id)
    assert (found.status, found.balance_after, found.direction) == ("completed", 10_000, "in")
    assert {"posted", "topup_pending", "topup_completed"} == {one.event for one in found.audit}
    assert await reason(shown(other, made.id)) == "TRANSACTION_NOT_FOUND"
    listed = await who.stub.ListTransactions(
        payment_service_pb2.ListTransactionsRequest(kind="topup"), metadata=who.metadata
    )
    assert [one.id for one in listed.transactions] == [made.id]
