"""Whatever people, services and banks do, in any order: after each step the books are those of a model."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sampan.payment.v1 import payment_internal_service_pb2 as internal
from sampan.payment.v1 import payment_service_pb2 as pb
from sampan.payment.v1 import service_hold_pb2 as services_pb
from sampan.payment.v1.top_up_pb2 import CreateTopUpRequest, TopUp
from sampan.payment.v1.wallet_pb2 import Wallet
from services.stack.pki import Pki
from tests.support.banking import Till, till
from tests.support.databases import Clone
from tests.support.errors import outcome
from tests.support.ledger_model import BEGINNING, DAILY, PEOPLE, Held, Model
from tests.support.money import lies
from tests.support.payment import Payer

Call = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True)
class Step:
    """Something that somebody does. `pick` chooses among what is there; what does not fit does nothing."""

    what: str
    one: int
    other: int
    pick: int
    amount: int
    flag: bool


# What happens oftener stands here more than once.
WHAT = (
    *("send", "send", "send", "transfer", "refund", "refund", "ask", "bank", "bank", "suspend"),
    *("hold", "hold", "capture", "capture", "void", "place", "place", "settle", "release", "bury"),
)
STEPS = st.builds(
    Step,
    st.sampled_from(WHAT),
    st.integers(0, PEOPLE - 1),
    st.integers(0, PEOPLE - 1),
    st.integers(0, 1_000),
    st.one_of(st.integers(1, 60), st.integers(0, 700)),
    st.booleans(),
)


@dataclass
class Room:
    """Three people of the till, next to the model of what they have."""

    shop: Till
    people: list[Payer]
    wallets: list[Wallet]
    before: dict[str, int]
    model: Model = field(default_factory=Model)
    hold_ids: list[str] = field(default_factory=list)
    transactions: list[str] = field(default_factory=list)
    top_ups: list[TopUp] = field(default_factory=list)
    versions: int = 0

    @classmethod
    async def of(cls, shop: Till) -> Room:
        """Three new people with money."""
        both = [await shop.people.rich(BEGINNING) for _ in range(PEOPLE)]
        return cls(shop, [one for one, _ in both], [wallet for _, wallet in both], await own_accounts(shop))

    async def send(self, step: Step) -> None:
        wallet, other = self.wallets[step.one], self.people[step.other].id
        request = pb.SendMoneyRequest(
            wallet_id=wallet.id, recipient_id=other, amount=step.amount or 1, currency="THB"
        )
        wanted = self.model.send(step.one, step.other, step.amount or 1)
        answer = await self.said(self.asking(step.one, "SendMoney"), request, wanted)
        if answer is not None:
            self.transactions.append(answer.id)

    async def transfer(self, step: Step) -> None:
        """A service's, which is refused in the answer."""
        moved = internal.Transfer(
            wallet_id=self.wallets[step.one].id,
            to_wallet_id=self.wallets[step.other].id,
            amount=step.amount or 1,
            currency="THB",
        )
        wanted = self.model.transfer(step.one, step.other, step.amount or 1)
        request = internal.CreateTransfersRequest(transfers=[moved])
        answer = await self.said(self.shop.people.settling.CreateTransfers, request, "", again=not wanted)
        assert answer is not None
        assert [one.reason for one in answer.results] == [wanted]

    async def hold(self, step: Step) -> None:
        request = pb.CreateHoldRequest(
            wallet_id=self.wallets[step.one].id,
            recipient_id=self.people[step.other].id,
            amount=step.amount or 1,
            currency="THB",
        )
        wanted = self.model.hold(step.one, step.other, step.amount or 1, service=False)
        answer = await self.said(self.asking(step.one, "CreateHold"), request, wanted)
        if answer is not None:
            self.hold_ids.append(answer.id)

    async def place(self, step: Step) -> None:
        """A new hold of a service, or one that is there already."""
        hold_id, known = (
            str(uuid.uuid4()),
            [place for place, held in enumerate(self.model.holds) if held.service],
        )
        one, other, amount = step.one, step.other, step.amount or 1
        if known and step.flag:
            place = known[step.pick % len(known)]
            held, hold_id = self.model.holds[place], self.hold_ids[place]
            wanted = self.model.place_again(held)
            if held.status != "buried":
                one, other, amount = held.payer, held.payee, held.amount
        else:
            wanted = self.model.hold(one, other, amount, service=True)
            if not wanted:
                self.hold_ids.append(hold_id)
        request = services_pb.PlaceHoldRequest(
            hold_id=hold_id,
            sender_id=self.people[one].id,
            recipient_id=self.people[other].id,
            amount=amount,
            currency="THB",
        )
        await self.said(self.shop.people.settling.PlaceHold, request, wanted)

    async def capture(self, step: Step) -> None:
        if (found := self.held(step)) is None:
            return
        hold, hold_id = found
        request = pb.CaptureHoldRequest(hold_id=hold_id, amount=step.amount, final=step.flag)
        wanted = self.model.capture(hold, step.one, step.amount, final=step.flag)
        answer = await self.said(self.asking(step.one, "CaptureHold"), request, wanted)
        if answer is not None:
            assert (answer.hold.captured, answer.hold.remaining) == (hold.captured, hold.rest)
            self.transactions.append(answer.transaction.id)

    async def settle(self, step: Step) -> None:
        if (found := self.held(step)) is None:
            return
        hold, hold_id = found
        request = services_pb.SettleHoldRequest(hold_id=hold_id, amount=step.amount, final=step.flag)
        wanted = self.model.capture(hold, None, step.amount, final=step.flag)
        answer = await self.said(self.shop.people.settling.SettleHold, request, wanted)
        if answer is not None:
            self.transactions.append(answer.transaction_id)

    async def void(self, step: Step) -> None:
        if (found := self.held(step)) is not None:
            wanted = self.model.void(found[0], step.one)
            await self.said(self.asking(step.one, "VoidHold"), pb.VoidHoldRequest(hold_id=found[1]), wanted)

    async def release(self, step: Step) -> None:
        if (found := self.held(step)) is not None:
            wanted = self.model.void(found[0], None)
            request = services_pb.ReleaseHoldRequest(hold_id=found[1])
            await self.said(self.shop.people.settling.ReleaseHold, request, wanted)

    async def bury(self, _: Step) -> None:
        hold_id = str(uuid.uuid4())
        self.model.bury()
        self.hold_ids.append(hold_id)
        request = services_pb.ReleaseHoldRequest(hold_id=hold_id)
        await self.said(self.shop.people.settling.ReleaseHold, request, "")

    async def refund(self, step: Step) -> None:
        if not self.transactions:
            return
        place = step.pick % len(self.transactions)
        request = pb.CreateRefundRequest(transaction_id=self.transactions[place], amount=step.amount)
        wanted = self.model.refund(self.model.paid[place], step.one, step.amount)
        await self.said(self.asking(step.one, "CreateRefund"), request, wanted)

    async def ask(self, step: Step) -> None:
        request = CreateTopUpRequest(
            wallet_id=self.wallets[step.one].id,
            amount=step.amount or 1,
            currency="THB",
            method="promptpay",
        )
        wanted = self.model.ask(step.one, step.amount or 1)
        answer = await self.said(self.asking(step.one, "CreateTopUp"), request, wanted)
        if answer is not None:
            self.top_ups.append(answer)

    async def bank(self, step: Step) -> None:
        """Money comes for a top-up, once or more often; sometimes it is another amount."""
        if not self.top_ups:
            return
        place = step.pick % len(self.top_ups)
        amount = self.top_ups[place].amount if step.flag else step.amount or 1
        notice = self.shop.notice(self.top_ups[place], amount=amount)
        wanted = self.model.bank_pays(self.model.asked[place], amount)
        for before in (False, True):
            told = await self.shop.tell(notice)
            assert (told.outcome, told.repeated_before) == (wanted, before)

    async def suspend(self, step: Step) -> None:
        """Or restore."""
        self.versions += 1
        self.model.purses[step.one].suspended = step.flag
        request = internal.SetStandingRequest(
            user_id=self.people[step.one].id, suspended=step.flag, version=self.versions
        )
        await self.shop.people.internal.SetStanding(request)

    async def check(self) -> None:
        """Everybody has what the model says, and so have our own accounts."""
        for person, wallet, purse in zip(self.people, self.wallets, self.model.purses, strict=True):
            seen = await person.get(wallet.id)
            assert (seen.balance, seen.held, seen.available) == (purse.balance, purse.held, purse.available)
            assert seen.limits.spent_today == purse.spent
        now = await own_accounts(self.shop)
        own = {kind: now.get(kind, 0) - self.before.get(kind, 0) for kind in ("fees", "clearing", "review")}
        model = self.model
        assert own == {"fees": model.fees, "clearing": model.clearing, "review": model.review}

    def held(self, step: Step) -> tuple[Held, str] | None:
        """One of the holds that there are."""
        if not self.model.holds:
            return None
        place = step.pick % len(self.model.holds)
        return self.model.holds[place], self.hold_ids[place]

    def asking(self, place: int, method: str) -> Call:
        async def ask(request: Message) -> Any:
            return await self.people[place].ask(method, request)

        return ask

    async def said(self, call: Call, request: Any, wanted: str, *, again: bool = True) -> Any:
        """The answer, None when it is the wanted refusal. What went well is said again, to the same end."""
        request.request_id = str(uuid.uuid4())
        answer, refused = await outcome(call(request))
        assert refused == wanted
        if answer is not None and again:
            assert (await call(request)).SerializeToString() == answer.SerializeToString()
        return answer


async def own_accounts(shop: Till) -> dict[str, int]:
    """What our own accounts have, by kind."""
    rows = await shop.owner.fetch(
        "SELECT kind, sum(balance)::bigint AS has FROM accounts "
        "WHERE owner IS NULL AND currency = 'THB' GROUP BY kind"
    )
    return {row["kind"]: row["has"] for row in rows}


async def day(shop: Till) -> object:
    """The day in Thailand, where limits begin anew."""
    return await shop.owner.fetchval("SELECT (now() AT TIME ZONE 'Asia/Bangkok')::date")


async def played(shop: Till, steps: list[Step]) -> None:
    """Plays steps and compares after each; not across midnight."""
    today, room = await day(shop), await Room.of(shop)
    for step in steps:
        await getattr(room, step.what)(step)
        if await day(shop) != today:
            return
        await room.check()
    assert await lies(shop.owner) == []


@pytest.fixture(scope="module")
async def shop(
    payment_database: Clone, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    limits = {
        "daily_limits": {"THB": [DAILY] * 4},
        "fees": {"THB": {"fixed": 2, "basis_points": 100}},
        "top_up_open": 1000,
    }
    async with till(payment_database, pki, tmp_path_factory.mktemp("till"), **limits) as found:
        yield found


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=8, deadline=None, suppress_health_check=QUIET, print_blob=True)
@given(steps=st.lists(STEPS, min_size=10, max_size=40))
async def test_books_equal_the_model_after_each_step(shop: Till, steps: list[Step]) -> None:
    await played(shop, steps)


@pytest.mark.long
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=QUIET,
    print_blob=True,
    phases=[Phase.generate, Phase.shrink],
)
@given(steps=st.lists(STEPS, min_size=30, max_size=80))
async def test_books_equal_the_model_after_each_of_many_steps(shop: Till, steps: list[Step]) -> None:
    await played(shop, steps)
