"""Top-ups: asked for, paid at a bank, credited once, and never lost or made of nothing."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sampan.payment.v1 import payment_internal_service_pb2 as internal
from sampan.payment.v1 import top_up_pb2 as pb
from services.payment.providers.provider import Event, Notice
from services.payment.providers.sandbox import Callback
from services.payment.providers.signing import Signer
from services.payment.qr import payload
from services.payment.qr.rails import RAILS
from services.stack.pki import Pki
from tests.support.banking import Till, till
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.scanning import scanned
from tests.support.waiting import crowd, until

RAIL = pytest.mark.parametrize("method", sorted(RAILS))
WITHIN = 20
# Longer than a QR lives.
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
async def shop(
    payment_database: Clone, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    async with till(payment_database, pki, tmp_path_factory.mktemp("till")) as found:
        yield found


@pytest.fixture
async def later(payment_database: Clone, pki: Pki, tmp_path: Path) -> AsyncIterator[Till]:
    """One whose clock a test moves. No sweeper comes in between."""
    async with till(payment_database, pki, tmp_path, sweep_seconds=60, sweep_idle_seconds=60) as found:
        yield found


@RAIL
async def test_a_top_up_asks_for_its_amount_by_its_reference(shop: Till, method: str) -> None:
    made = await shop.asked(shop.people.new(), 12_300, method, RAILS[method].currency)
    assert (made.status, made.amount, made.currency) == ("pending", 12_300, RAILS[method].currency)
    asked = payload.parse(made.qr_payload)
    assert (asked.method, asked.amount, asked.reference) == (method, 12_300, made.reference)
    assert scanned(made.qr_png) == [made.qr_payload]
    lasts = made.expires_at.ToDatetime() - made.created_at.ToDatetime()
    assert lasts == timedelta(minutes=15)


@RAIL
async def test_what_a_bank_has_taken_is_in_the_wallet(shop: Till, method: str) -> None:
    who, currency = shop.people.new(), RAILS[method].currency
    made = await shop.asked(who, 12_300, method, currency)
    paid = shop.notice(made, Event.STARTED)
    assert (await shop.tell(paid)).outcome == "accepted"
    assert (await shop.seen(who, made.id)).status == "processing"
    assert await shop.balance(who, currency) == 0
    done = await shop.tell(shop.notice(made, payment_id=paid.payment_id))
    assert (done.outcome, done.top_up_id, done.repeated_before) == ("credited", made.id, False)
    assert await shop.balance(who, currency) == 12_300
    found = await shop.seen(who, made.id)
    assert (found.status, found.paid_amount, found.qr_png) == ("completed", 12_300, b"")
    assert [(one.status, one.by) for one in found.history] == [
        ("pending", "customer"),
        ("processing", "provider"),
        ("completed", "provider"),
    ]
    kinds = await shop.owner.fetch("SELECT kind, amount FROM transfers WHERE id = $1", uuid.UUID(made.id))
    assert [tuple(row) for row in kinds] == [("topup", 12_300)]
    await shop.books()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"currency": "SGD"}, "CURRENCY_MISMATCH"),
        ({"method": "paynow"}, "CURRENCY_MISMATCH"),
        ({"method": "paynow", "currency": "SGD"}, "CURRENCY_MISMATCH"),
        ({"currency": "USD"}, "CURRENCY_MISMATCH"),
        ({"currency": "EUR"}, "INVALID_ARGUMENT"),
        ({"method": "cash"}, "INVALID_ARGUMENT"),
        ({"amount": 0}, "INVALID_ARGUMENT"),
        ({"amount": -1}, "INVALID_ARGUMENT"),
        ({"amount": 200_000_001}, "AMOUNT_TOO_LARGE"),
        ({"amount": 2**63 - 1}, "AMOUNT_TOO_LARGE"),
        ({"wallet_id": str(uuid.uuid4())}, "WALLET_NOT_FOUND"),
        ({"wallet_id": "no id"}, "INVALID_ARGUMENT"),
    ],
)
async def test_what_cannot_be_is_refused_and_nothing_is_asked_for(
    shop: Till, change: dict[str, Any], why: str
) -> None:
    who = shop.people.new()
    wallet = await who.wallet("THB")
    good = {"wallet_id": wallet.id, "amount": 100, "currency": "THB", "method": "promptpay"}
    request = pb.CreateTopUpRequest(**{**good, **change})
    assert await reason(who.stub.CreateTopUp(request, metadata=who.metadata)) == why
    listed = await who.stub.ListTopUps(pb.ListTopUpsRequest(), metadata=who.metadata)
    assert list(listed.top_ups) == []


async def test_the_most_may_be_asked_for(shop: Till) -> None:
    assert (await shop.asked(shop.people.new(), 200_000_000)).amount == 200_000_000


async def test_nobody_tops_up_or_sees_anothers(shop: Till) -> None:
    one, other = shop.people.new(), shop.people.new()
    made = await shop.asked(one)
    assert await reason(shop.asked(other, wallet_id=made.wallet_id)) == "WALLET_NOT_FOUND"
    assert await reason(shop.seen(other, made.id)) == "TOP_UP_NOT_FOUND"
    assert await reason(shop.seen(other, str(uuid.uuid4()))) == "TOP_UP_NOT_FOUND"


async def test_nobody_has_more_open_than_the_setting_says(shop: Till) -> None:
    who = shop.people.new()
    first = await shop.asked(who)
    # Each waits for all before it: more at once are over their deadlines on a slow machine.
    asked = await crowd([lambda: reason(shop.asked(who))] * 25, at_once=8)
    assert Counter(asked) == {"": 19, "TOO_MANY_TOP_UPS": 6}
    await shop.tell(shop.notice(first))
    assert await reason(shop.asked(who)) == ""


async def test_a_list_has_ones_own_newest_first_in_pages(shop: Till) -> None:
    who = shop.people.new()
    made = [(await shop.asked(who, 100 + number)).id for number in range(5)]
    await shop.asked(who, 100, "paynow", "SGD")
    await shop.tell(shop.notice(await shop.seen(who, made[2])))
    wallet = next(one.id for one in await who.wallets() if one.currency == "THB")

    async def page(**more: Any) -> pb.ListTopUpsResponse:
        answer: pb.ListTopUpsResponse = await who.stub.ListTopUps(
            pb.ListTopUpsRequest(wallet_id=wallet, **more), metadata=who.metadata
        )
        return answer

    first = await page(limit=3)
    rest = await page(limit=3, page_token=first.next_page_token)
    assert [one.id for one in (*first.top_ups, *rest.top_ups)] == made[::-1]
    assert (first.has_more, rest.has_more, rest.next_page_token) == (True, False, "")
    assert [one.id for one in (await page(status="completed")).top_ups] == [made[2]]
    assert await reason(page(status="pending", page_token=first.next_page_token)) == "INVALID_ARGUMENT"


async def test_one_payment_said_50_times_at_once_is_credited_once(shop: Till) -> None:
    who = shop.people.new()
    made = await shop.asked(who)
    paid = shop.notice(made)
    answers = await asyncio.gather(*(shop.tell(paid) for _ in range(50)))
    assert {one.outcome for one in answers} == {"credited"}
    assert Counter(one.repeated_before for one in answers) == {True: 49, False: 1}
    assert await shop.balance(who) == made.amount
    await shop.books()


async def test_a_start_after_the_end_changes_nothing(shop: Till) -> None:
    who = shop.people.new()
    made = await shop.asked(who)
    paid = shop.notice(made)
    await shop.tell(paid)
    before = await shop.books()
    late = await shop.tell(shop.notice(made, Event.STARTED, payment_id=paid.payment_id))
    assert (late.outcome, late.repeated_before) == ("accepted", True)
    failed = await shop.tell(shop.notice(made, Event.FAILED, payment_id=paid.payment_id))
    assert failed.outcome == "ignored"
    assert (await shop.seen(who, made.id)).status == "completed"
    assert await shop.books() == before


@pytest.mark.parametrize("amount", [1, 9_999, 10_001, 10**15])
async def test_a_wrong_amount_is_held_for_review(shop: Till, amount: int) -> None:
    who, held = shop.people.new(), await shop.held_for_review()
    made = await shop.asked(who)
    done = await shop.tell(shop.notice(made, amount=amount))
    assert (done.outcome, done.top_up_id) == ("review", made.id)
    found = await shop.seen(who, made.id)
    assert (found.status, found.review_reason) == ("review", "WRONG_AMOUNT")
    assert (found.amount, found.paid_amount) == (10_000, amount)
    assert await shop.balance(who) == 0
    assert await shop.held_for_review() == held + amount
    await shop.books()


async def test_a_second_payment_is_held_and_the_first_stays(shop: Till) -> None:
    who, held = shop.people.new(), await shop.held_for_review()
    made = await shop.asked(who)
    answers = await asyncio.gather(*(shop.tell(shop.notice(made)) for _ in range(5)))
    assert Counter(one.outcome for one in answers) == {"credited": 1, "review": 4}
    assert (await shop.seen(who, made.id)).status == "completed"
    assert await shop.balance(who) == made.amount
    assert await shop.held_for_review() == held + 4 * made.amount
    await shop.books()


@pytest.mark.parametrize("reference", ["NOTOURS", "0" * 25, "Z" * 25])
async def test_money_for_nobody_we_know_is_held(shop: Till, reference: str) -> None:
    made, held = await shop.asked(shop.people.new()), await shop.held_for_review()
    stray = shop.notice(made, reference=reference)
    done = await shop.tell(stray)
    assert (done.outcome, done.top_up_id) == ("review", "")
    assert (await shop.tell(stray)).repeated_before
    assert await shop.held_for_review() == held + made.amount
    started = shop.notice(made, Event.STARTED, reference=reference)
    assert await reason(shop.tell(started)) == "TOP_UP_NOT_FOUND"
    await shop.books()


async def test_money_by_another_rail_is_held(shop: Till) -> None:
    who = shop.people.new()
    made = await shop.asked(who)
    done = await shop.tell(shop.notice(made, method="paynow", currency="SGD"))
    assert done.outcome == "review"
    assert (await shop.seen(who, made.id)).review_reason == "WRONG_METHOD"
    await shop.books()


async def test_money_for_a_suspended_account_is_held(shop: Till) -> None:
    who = shop.people.new()
    made = await shop.asked(who)
    standing = internal.SetStandingRequest(user_id=who.id, suspended=True, version=1)
    await shop.people.internal.SetStanding(standing)
    assert (await shop.tell(shop.notice(made))).outcome == "review"
    assert (await shop.seen(who, made.id)).review_reason == "ACCOUNT_SUSPENDED"
    assert await reason(shop.asked(who)) == "ACCOUNT_SUSPENDED"
    await shop.books()


async def test_a_payment_is_one_thing_only(shop: Till) -> None:
    made, other = await shop.asked(shop.people.new()), await shop.asked(shop.people.new())
    paid = shop.notice(made)
    await shop.tell(paid)
    before = await shop.books()
    for change in ({"amount": 1}, {"reference": other.reference}, {"method": "paynow", "currency": "SGD"}):
        changed: dict[str, Any] = {"payment_id": paid.payment_id, **change}
        assert await reason(shop.tell(shop.notice(made, **changed))) == "CALLBACK_CONFLICT"
    assert await shop.books() == before


async def test_two_top_ups_with_one_payment_at_once_get_one(shop: Till) -> None:
    asked = [await shop.asked(shop.people.new()) for _ in range(6)]
    said = [shop.notice(one, payment_id=f"same-{asked[0].id}") for one in asked]
    answers = await asyncio.gather(*(reason(shop.tell(one)) for one in said))
    assert Counter(answers) == {"": 1, "CALLBACK_CONFLICT": 5}
    await shop.books()


async def test_a_customer_may_think_better_of_it_and_another_pay(shop: Till) -> None:
    who, made = await shop.paying()
    second = shop.notice(made, Event.STARTED)
    assert await reason(shop.tell(second)) == "PAYMENT_IN_PROGRESS"
    assert (await shop.tell(shop.notice(made, Event.FAILED, payment_id="another"))).outcome == "ignored"
    await shop.tell(shop.notice(made, Event.FAILED, payment_id=f"begun-{made.id}"))
    assert (await shop.seen(who, made.id)).status == "pending"
    assert (await shop.tell(second)).outcome == "accepted"
    await shop.tell(shop.notice(made, payment_id=second.payment_id))
    assert await reason(shop.tell(shop.notice(made, Event.STARTED))) == "TOP_UP_SETTLED"
    assert await shop.balance(who) == made.amount


def forged(notice: Notice, at: int) -> dict[str, tuple[bytes, dict[str, str]]]:
    """Callbacks that somebody else could send."""
    good = Signer(bytes(range(32)))
    body = Callback.of(notice).model_dump_json().encode()
    more = json.dumps(json.loads(body) | {"amount": notice.amount + 1}).encode()
    return {
        "no signature": (body, {}),
        "another secret": (body, Signer(bytes(32)).headers(body, at)),
        "another body": (more, good.headers(body, at)),
        "another time": (body, good.headers(body, at) | {"callback-timestamp": str(at - 1)}),
    }


@pytest.mark.parametrize("how", ["no signature", "another secret", "another body", "another time"])
async def test_a_forged_callback_moves_nothing(shop: Till, how: str) -> None:
    made = await shop.asked(shop.people.new())
    before = await shop.books()
    body, headers = forged(shop.notice(made), int(shop.clock()))[how]
    assert await reason(shop.send(body, headers)) == "SIGNATURE_INVALID"
    assert await shop.books() == before


async def test_stale_or_senseless_callbacks_move_nothing(shop: Till) -> None:
    made = await shop.asked(shop.people.new())
    before, now = await shop.books(), int(shop.clock())
    body = Callback.of(shop.notice(made)).model_dump_json().encode()
    for at in (now - 302, now + 302):
        assert await reason(shop.send(body, shop.signer.headers(body, at))) == "CALLBACK_STALE"
    for wrong in (b"", b"{}", body.replace(b'"amount":10000', b'"amount":1.5')):
        signed = shop.signer.headers(wrong, now)
        assert await reason(shop.send(wrong, signed)) == "CALLBACK_MALFORMED"
    assert await reason(shop.tell(shop.notice(made, currency="SGD"))) == "CALLBACK_MALFORMED"
    assert await reason(shop.tell(shop.notice(made, method="cash"))) == "CALLBACK_MALFORMED"
    assert await reason(shop.tell(shop.notice(made), provider="other")) == "PROVIDER_NOT_FOUND"
    assert await reason(shop.tell(shop.notice(made), provider="../x")) == "INVALID_ARGUMENT"
    assert await shop.books() == before


async def test_an_expired_qr_is_not_taken_money_for(later: Till) -> None:
    made = await later.asked(later.people.new())
    later.clock.ahead = 901
    before = await later.books()
    assert await reason(later.tell(later.notice(made, Event.STARTED))) == "QR_EXPIRED"
    assert await later.books() == before


async def test_money_that_was_taken_too_late_is_held(later: Till) -> None:
    who = later.people.new()
    made = await later.asked(who)
    later.clock.ahead = 901
    assert (await later.tell(later.notice(made))).outcome == "review"
    assert (await later.seen(who, made.id)).review_reason == "PAID_LATE"
    assert await later.balance(who) == 0


async def test_news_that_come_late_of_money_taken_in_time_are_credited(later: Till) -> None:
    who = later.people.new()
    made = await later.asked(who)
    taken = later.notice(made)
    later.clock.ahead = HOUR.total_seconds()
    assert (await later.tell(taken)).outcome == "credited"
    assert await later.balance(who) == made.amount


async def test_what_is_being_paid_cannot_expire(payment_database: Clone, pki: Pki, tmp_path: Path) -> None:
    async with till(payment_database, pki, tmp_path, patience_seconds=7200) as shop:
        who, made = await shop.paying()
        other = await shop.asked(shop.people.new())
        shop.clock.ahead = HOUR.total_seconds()
        # The sweeper has been by: what nobody is paying has expired.
        await until(lambda: status(shop, other), "expired", within=WITHIN)
        assert (await shop.seen(who, made.id)).status == "processing"
        done = await shop.tell(shop.notice(made, payment_id=f"begun-{made.id}"))
        assert done.outcome == "credited"
        assert await shop.balance(who) == made.amount


async def test_what_a_bank_says_it_never_took_expires_but_is_credited_should_it_come(
    payment_database: Clone, pki: Pki, tmp_path: Path
) -> None:
    async with till(payment_database, pki, tmp_path, patience_seconds=60) as shop:
        who, made = await shop.paying()
        shop.clock.ahead = HOUR.total_seconds()
        await until(lambda: status(shop, made), "expired", within=WITHIN)
        assert [one.by for one in (await shop.seen(who, made.id)).history] == [
            "customer",
            "provider",
            "sweeper",
        ]
        await shop.tell(shop.notice(made, payment_id=f"begun-{made.id}"))
        assert (await shop.seen(who, made.id)).status == "completed"
        assert await shop.balance(who) == made.amount


async def status(shop: Till, top_up: pb.TopUp) -> str:
    """As it is now, in the books."""
    found: str = await shop.owner.fetchval("SELECT status FROM top_ups WHERE id = $1", uuid.UUID(top_up.id))
    return found


async def test_money_of_which_no_news_came_is_found_at_the_bank(shop: Till) -> None:
    who, made = await shop.paying()
    shop.journal.take(shop.notice(made, payment_id=f"begun-{made.id}"))
    await until(lambda: status(shop, made), "completed", within=WITHIN)
    assert await shop.balance(who) == made.amount
    assert (await shop.seen(who, made.id)).history[-1].by == "sweeper"
    # The news come after all.
    late = await shop.tell(shop.notice(made, payment_id=f"begun-{made.id}"))
    assert (late.outcome, late.repeated_before) == ("credited", True)
    assert await shop.balance(who) == made.amount


async def test_of_what_a_bank_has_taken_without_a_word_nothing_expires(
    payment_database: Clone, pki: Pki, tmp_path: Path
) -> None:
    async with till(payment_database, pki, tmp_path) as shop:
        who = shop.people.new()
        made = await shop.asked(who)
        shop.journal.take(shop.notice(made))
        shop.clock.ahead = HOUR.total_seconds()
        await until(lambda: status(shop, made), "completed", within=WITHIN)
        assert await shop.balance(who) == made.amount


async def test_while_a_bank_cannot_be_asked_nothing_expires(
    payment_database: Clone, pki: Pki, tmp_path: Path
) -> None:
    async with till(payment_database, pki, tmp_path, sweep_lease_seconds=0.05) as shop:
        made = await shop.asked(shop.people.new())
        looks = "SELECT look_at > expires_at + interval '30 minutes' FROM top_ups WHERE id = $1"
        # A folder in place of its file: the bank does not know.
        (tmp_path / "bank" / f"{made.reference}.json").mkdir(parents=True)
        shop.clock.ahead = HOUR.total_seconds()
        await until(lambda: shop.owner.fetchval(looks, uuid.UUID(made.id)), True, within=WITHIN)
        assert await status(shop, made) == "pending"
        (tmp_path / "bank" / f"{made.reference}.json").rmdir()
        await until(lambda: status(shop, made), "expired", within=WITHIN)


async def test_one_bad_top_up_does_not_keep_others_waiting(
    payment_database: Clone, pki: Pki, tmp_path: Path
) -> None:
    async with till(payment_database, pki, tmp_path, sweep_lease_seconds=3600) as shop:
        asked = [await shop.asked(shop.people.new()) for _ in range(5)]
        (tmp_path / "bank" / f"{asked[0].reference}.json").mkdir(parents=True)
        shop.clock.ahead = HOUR.total_seconds()
        for one in asked[1:]:
            await until(lambda one=one: status(shop, one), "expired", within=WITHIN)
        assert await status(shop, asked[0]) == "pending"


async def test_two_sweepers_and_the_news_at_once_credit_once(
    payment_database: Clone, pki: Pki, tmp_path: Path
) -> None:
    async with till(payment_database, pki, tmp_path) as one, till(payment_database, pki, tmp_path) as two:
        begun = [await one.paying() for _ in range(8)]
        for _, made in begun:
            one.journal.take(one.notice(made, payment_id=f"begun-{made.id}"))
        news = [
            place.tell(place.notice(made, payment_id=f"begun-{made.id}"))
            for _, made in begun
            for place in (one, two)
        ]
        await asyncio.gather(*news)
        for who, made in begun:
            await until(lambda made=made: status(one, made), "completed", within=WITHIN)
            assert await one.balance(who) == made.amount
        await one.books()


async def test_payment_without_a_bank_takes_no_top_ups(
    payment_database: Clone, pki: Pki, tmp_path: Path
) -> None:
    async with till(payment_database, pki, tmp_path, sandbox_secret="") as shop:
        assert await reason(shop.asked(shop.people.new())) == "METHOD_UNAVAILABLE"
