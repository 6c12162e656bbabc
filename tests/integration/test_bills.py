"""Bills: what a person has pending never passes the cap, and what happens to them is told once."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from google.protobuf.message import Message

from sampan.payment.v1 import bill_pb2 as pb
from sampan.payment.v1 import events_pb2 as events
from sampan.payment.v1.payment_internal_service_pb2_grpc import PaymentInternalServiceStub
from sampan.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from services.mesh import migrations
from services.mesh.app import App
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support import faults
from tests.support.databases import Clone, payment_app
from tests.support.errors import reason
from tests.support.mesh import Minter, channel_as, serving
from tests.support.waiting import crowd

CAP = 100_000


@dataclass(frozen=True)
class Debtor:
    """Somebody with bills."""

    stub: Any
    id: str
    token: str

    async def call(self, method: str, request: Message) -> Any:
        """Calls a method as them."""
        metadata = [("authorization", f"Bearer {self.token}")]
        return await getattr(self.stub, method)(request, metadata=metadata)

    async def bill(self, amount: int, description: str = "", request_id: str = "") -> pb.Bill:
        """Makes a bill."""
        request = pb.CreateBillRequest(amount=amount, description=description, request_id=request_id)
        made: pb.Bill = await self.call("CreateBill", request)
        return made

    async def bills(self, **more: Any) -> pb.ListBillsResponse:
        """Theirs."""
        found: pb.ListBillsResponse = await self.call("ListBills", pb.ListBillsRequest(**more))
        return found

    async def pay(self, request_id: str = "") -> int:
        """Pays all of them; how many."""
        done = await self.call("PayBills", pb.PayBillsRequest(request_id=request_id))
        return int(done.transactions_paid)


@dataclass(frozen=True)
class Debtors:
    """Makes people up. `owner` is payment's database."""

    stub: PaymentServiceStub
    totals: PaymentInternalServiceStub
    minter: Minter
    owner: asyncpg.Connection

    def new(self) -> Debtor:
        """Somebody new."""
        user_id = str(uuid.uuid4())
        return Debtor(self.stub, user_id, self.minter.token(user_id))

    async def told(self, person: Debtor) -> list[tuple[str, int, bytes]]:
        """Events of a person's bills: subject, version, payload."""
        rows = await self.owner.fetch(
            "SELECT subject, aggregate_version, payload FROM outbox WHERE aggregate_id = $1 ORDER BY 2",
            uuid.UUID(person.id),
        )
        return [(row[0], row[1], row[2]) for row in rows]

    async def pending(self, person: Debtor) -> int:
        """What a person's pending bills come to."""
        return int(
            await self.owner.fetchval(
                "SELECT coalesce(sum(amount), 0) FROM bills WHERE user_id = $1 AND paid_at IS NULL",
                uuid.UUID(person.id),
            )
        )


@pytest.fixture(scope="module")
async def people(payment: tuple[App, str], payment_database: Clone, pki: Pki) -> AsyncIterator[Debtors]:
    app, address = payment
    owner = await asyncpg.connect(payment_database.owner_url)
    async with (
        channel_as("edge", address, "payment", pki) as edge,
        channel_as("analytics", address, "payment", pki) as analytics,
    ):
        yield Debtors(PaymentServiceStub(edge), PaymentInternalServiceStub(analytics), Minter.of(app), owner)
    await owner.close()


async def test_a_bill_is_made_shown_and_listed(people: Debtors) -> None:
    one = people.new()
    first = await one.bill(25_050, "ค่าเช่า")
    assert (first.user_id, first.amount, first.currency) == (one.id, 25_050, "THB")
    assert (first.description, first.status, first.HasField("paid_at")) == ("ค่าเช่า", "pending", False)
    second = await one.bill(100)
    assert list((await one.bills()).transactions) == [second, first]
    assert await one.call("GetBill", pb.GetBillRequest(id=first.id)) == first


async def test_a_bill_is_there_for_its_owner_only(people: Debtors) -> None:
    one, other = people.new(), people.new()
    made = await one.bill(100, "mine")
    assert await reason(other.call("GetBill", pb.GetBillRequest(id=made.id))) == "BILL_NOT_FOUND"
    assert not (await other.bills()).transactions
    assert await other.pay() == 0
    assert (await one.call("GetBill", pb.GetBillRequest(id=made.id))).status == "pending"


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": 0},
        {"amount": -1},
        {"amount": 1, "description": "x" * 501},
        {"amount": 1, "request_id": "1"},
    ],
    ids="-".join,
)
async def test_a_bill_that_breaks_a_rule_is_refused_and_leaves_nothing(
    people: Debtors, fields: dict[str, Any]
) -> None:
    one = people.new()
    assert await reason(one.call("CreateBill", pb.CreateBillRequest(**fields))) == "INVALID_ARGUMENT"
    assert not (await one.bills()).transactions
    assert await people.told(one) == []


async def test_pending_bills_may_come_to_the_cap_and_not_past_it(people: Debtors) -> None:
    one = people.new()
    assert await reason(one.bill(CAP + 1)) == "BILL_CAP_EXCEEDED"
    assert await reason(one.bill((1 << 63) - 1)) == "BILL_CAP_EXCEEDED"
    await one.bill(CAP - 1)
    await one.bill(1)
    assert await reason(one.bill(1)) == "BILL_CAP_EXCEEDED"
    assert await people.pending(one) == CAP
    assert await one.pay() == 2
    await one.bill(CAP)
    assert await people.pending(one) == CAP


async def test_two_hundred_bills_of_a_crowd_come_to_the_cap_and_not_past_it(people: Debtors) -> None:
    one = people.new()
    reasons = await crowd([lambda: reason(one.bill(1_000))] * 200)
    assert sorted(set(reasons)) == ["", "BILL_CAP_EXCEEDED"]
    assert reasons.count("") == CAP // 1_000
    assert await people.pending(one) == CAP
    versions = [version for _, version, _ in await people.told(one)]
    assert versions == list(range(1, CAP // 1_000 + 1))


async def test_bills_that_are_made_while_others_are_paid_are_paid_once(people: Debtors) -> None:
    one = people.new()

    def bill() -> Awaitable[str]:
        return reason(one.bill(1_000))

    done = await crowd([bill, bill, bill, one.pay] * 20)
    made, paid = done.count(""), sum(int(count) for count in done[3::4])
    paid += await one.pay()
    assert (made, paid) == (60, 60)
    counted = await people.owner.fetchrow(
        "SELECT transactions, paid, unpaid FROM bill_accounts WHERE user_id = $1", uuid.UUID(one.id)
    )
    assert tuple(counted) == (60, 60, 0)
    told = await people.told(one)
    assert [version for _, version, _ in told] == list(range(1, len(told) + 1))
    payments = [events.TransactionPaid.FromString(data) for subject, _, data in told if "paid" in subject]
    assert sum(one.transactions_paid for one in payments) == 60


async def test_what_happens_to_bills_is_told_in_their_order(people: Debtors) -> None:
    one = people.new()
    made = await one.bill(25_050, "rent")
    assert await one.pay() == 1
    # Nothing was pending: nothing has happened.
    assert await one.pay() == 0
    (first, version, data), (second, another, more) = await people.told(one)
    assert (first, version) == ("sampan.payment.transaction.created", 1)
    created = events.TransactionCreated.FromString(data)
    assert (created.transaction_id, created.user_id) == (made.id, one.id)
    assert (created.amount, created.description) == (25_050, "rent")
    assert created.timestamp == made.created_at
    assert (second, another) == ("sampan.payment.transaction.paid", 2)
    paid = events.TransactionPaid.FromString(more)
    assert (paid.user_id, paid.transactions_paid) == (one.id, 1)
    assert paid.timestamp.seconds > 0


async def test_a_repeated_request_is_answered_alike_also_a_month_later(people: Debtors) -> None:
    one, request_id, other_id = people.new(), str(uuid.uuid4()), str(uuid.uuid4())
    made = await one.bill(100, "rent", request_id)
    assert await one.pay(other_id) == 1
    await people.owner.execute("UPDATE idempotency SET created_at = now() - interval '40 days'")
    assert await one.bill(100, "rent", request_id) == made
    await one.bill(100)
    assert await one.pay(other_id) == 1
    assert await reason(one.bill(101, "rent", request_id)) == "REQUEST_ID_REUSED"
    assert await people.pending(one) == 100


async def test_bills_come_in_pages(people: Debtors) -> None:
    one, other = people.new(), people.new()
    made = [(await one.bill(number + 1)).id for number in range(25)]
    found: list[str] = []
    token, pages = "", 0
    while True:
        page = await one.bills(page_token=token)
        found += [bill.id for bill in page.transactions]
        token, pages = page.next_page_token, pages + 1
        assert page.has_more == bool(token)
        if not token:
            break
    assert (found, pages) == (made[::-1], 3)
    assert await reason(one.bills(page_token="x")) == "INVALID_ARGUMENT"
    assert await reason(one.bills(limit=101)) == "INVALID_ARGUMENT"
    assert await reason(one.bills(status="open")) == "INVALID_ARGUMENT"
    # A token is a place in the list; whose list it is, the access token says.
    first = await one.bills(limit=1)
    assert not (await other.bills(page_token=first.next_page_token)).transactions


async def test_bills_are_found_by_status(people: Debtors) -> None:
    one = people.new()
    paid = await one.bill(100)
    await one.pay()
    pending = await one.bill(200)
    assert [bill.id for bill in (await one.bills(status="pending")).transactions] == [pending.id]
    (shown,) = (await one.bills(status="paid")).transactions
    assert (shown.id, shown.status, shown.HasField("paid_at")) == (paid.id, "paid", True)


async def test_what_a_bill_is_for_lies_sealed_and_goes_with_its_persons_key(people: Debtors) -> None:
    one = people.new()
    made = await one.bill(100, "a secret of mine")
    kept = await people.owner.fetchval("SELECT description FROM bills WHERE id = $1", uuid.UUID(made.id))
    assert b"secret" not in kept
    await people.owner.execute("DELETE FROM person_keys WHERE user_id = $1", uuid.UUID(one.id))
    shown = await one.call("GetBill", pb.GetBillRequest(id=made.id))
    assert (shown.amount, shown.description) == (100, "")


async def test_totals_are_those_of_each_person(people: Debtors) -> None:
    some = sorted((people.new() for _ in range(5)), key=lambda one: one.id)
    for number, one in enumerate(some):
        await one.bill(100 * (number + 1))
        await one.bill(1)
    await some[2].pay()
    found: dict[str, pb.BillTotals] = {}
    after = ""
    while True:
        request = pb.ListBillTotalsRequest(after_user_id=after, limit=2)
        page = (await people.totals.ListBillTotals(request)).totals
        if not page:
            break
        found |= {one.user_id: one for one in page}
        assert after < page[0].user_id
        after = page[-1].user_id
    shown = [found[one.id] for one in some]
    assert [(one.events, one.transactions, one.amount, one.paid) for one in shown] == [
        *((2, 2, 101, 0), (2, 2, 201, 0), (3, 2, 301, 2), (2, 2, 401, 0), (2, 2, 501, 0))
    ]


@pytest.mark.parametrize("step", ["create_bill", "pay_bills"])
@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
async def test_a_failure_around_the_commit_leaves_one_effect_after_a_retry(
    people: Debtors, tmp_path: Path, step: str, moment: str
) -> None:
    one, request_id = people.new(), str(uuid.uuid4())
    await one.bill(100)
    with faults.here(tmp_path), faults.armed(tmp_path, f"payment.{step}.{moment}", "raise"):
        if step == "create_bill":
            assert await reason(one.bill(200, "rent", request_id)) != ""
            await one.bill(200, "rent", request_id)
        else:
            assert await reason(one.pay(request_id)) != ""
            assert await one.pay(request_id) == 1
    assert len((await one.bills()).transactions) == (2 if step == "create_bill" else 1)
    assert [version for _, version, _ in await people.told(one)] == [1, 2]


async def test_the_running_role_changes_nothing_of_a_bill_but_that_it_is_paid(
    people: Debtors, payment_database: Clone
) -> None:
    made = await people.new().bill(100)
    running = await asyncpg.connect(payment_database.runtime_url)
    try:
        for statement in (
            "UPDATE bills SET amount = 1",
            "UPDATE bills SET user_id = gen_random_uuid()",
            "DELETE FROM bills",
            "TRUNCATE bills",
            "DELETE FROM bill_accounts",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await running.execute(statement)
    finally:
        await running.close()
    assert await people.owner.fetchval("SELECT amount FROM bills WHERE id = $1", uuid.UUID(made.id)) == 100


async def test_another_currency_and_cap_by_settings(payment_database: Clone, pki: Pki) -> None:
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": ["127.0.0.1:1"]})
    minter = Minter()
    app = await payment_app(payment_database, pki, mesh, minter, bills_currency="VND", bills_cap=5)
    async with serving(app, mesh) as address, channel_as("edge", address, "payment", pki) as edge:
        one = Debtor(PaymentServiceStub(edge), str(uuid.uuid4()), "")
        one = Debtor(one.stub, one.id, minter.token(one.id))
        assert (await one.bill(5)).currency == "VND"
        assert await reason(one.bill(1)) == "BILL_CAP_EXCEEDED"


async def test_models_and_migrations_agree(payment_database: Clone) -> None:
    await migrations.check("payment", payment_database.owner_url)
