"""The rows of bills and statistics of the contract (Y7, N1), by the letter, through the edge."""

from __future__ import annotations

import uuid
from typing import Any

import asyncpg
import pytest
from google.protobuf.message import Message

from sampan.analytics.v1 import analytics_service_pb2 as figures
from sampan.payment.v1 import bill_pb2 as pb
from tests.support.clients import Clients, Person
from tests.support.doors import Reply
from tests.support.stack import Stack
from tests.support.waiting import until

SERVICE = "/sampan.payment.v1.PaymentService"
ANALYTICS = "/sampan.analytics.v1.AnalyticsService"
PREFIXES = pytest.mark.parametrize("prefix", ["/v1/payment", "/payment"])
STATS = {"total_transactions", "total_amount", "total_paid_transactions", "events_processed", "unique_users"}
# Patience, in seconds, of a test that shares two cores with others; on a quiet machine it takes a twentieth.
VISIBLE = 20.0


class Debtor:
    """REST calls of one person."""

    def __init__(self, clients: Clients, person: Person) -> None:
        self.clients = clients
        self.id = person.id
        self.token = person.token

    async def __call__(self, verb: str, path: str, body: Any = None) -> Reply:
        return await self.clients.rest.call(verb, path, body, token=self.token)

    async def figures(self) -> tuple[Any, ...]:
        """Their own statistics."""
        body = (await self("GET", f"/v1/analytics/users/{self.id}")).body
        names = ("total_transactions", "total_amount", "total_paid_transactions", "events_processed")
        return tuple(body[name] for name in names)


@pytest.fixture
async def debtor(clients: Clients) -> Debtor:
    return Debtor(clients, await clients.register())


@PREFIXES
async def test_y7_a_bill_is_made_listed_and_paid(debtor: Debtor, prefix: str) -> None:
    made = await debtor("POST", f"{prefix}/transactions", {"amount": "25050", "description": "ค่าไฟ"})
    assert made.code == 201
    assert made.headers["location"] == f"/v1/payment/transactions/{made.body['id']}"
    assert set(made.body) == {"id", "user_id", "amount", "currency", "description", "status", "created_at"}
    assert (made.body["user_id"], made.body["amount"]) == (debtor.id, "25050")
    assert (made.body["description"], made.body["status"], made.body["currency"]) == (
        *("ค่าไฟ", "pending", "THB"),
    )
    # A number is taken, too.
    second = await debtor("POST", f"{prefix}/transactions", {"amount": 7})
    assert (second.code, second.body["amount"], second.body["description"]) == (201, "7", "")
    listed = await debtor("GET", f"{prefix}/transactions/list")
    assert (listed.code, listed.body["transactions"]) == (200, [second.body, made.body])
    assert (listed.body["has_more"], listed.body["next_page_token"]) == (False, "")
    one = await debtor("GET", f"{prefix}/transactions/{made.body['id']}")
    assert (one.code, one.body) == (200, made.body)
    paid = await debtor("POST", f"{prefix}/transactions/pay", {})
    assert (paid.code, paid.body) == (200, {"transactions_paid": 2})
    again = await debtor("POST", f"{prefix}/transactions/pay")
    assert (again.code, again.body) == (200, {"transactions_paid": 0})
    shown = (await debtor("GET", f"{prefix}/transactions/list?status=paid&limit=1")).body
    assert shown["transactions"][0]["status"] == "paid"
    assert shown["has_more"] is True
    rest = await debtor("GET", f"{prefix}/transactions/list?limit=1&page_token={shown['next_page_token']}")
    assert [bill["id"] for bill in rest.body["transactions"]] == [made.body["id"]]


async def test_y7_pending_bills_come_to_a_thousand_at_most(debtor: Debtor) -> None:
    path = "/v1/payment/transactions"
    assert (await debtor("POST", path, {"amount": "99999"})).code == 201
    over = await debtor("POST", path, {"amount": "2"})
    assert (over.code, over.reason) == (409, "BILL_CAP_EXCEEDED")
    assert over.headers["content-type"] == "application/problem+json"
    assert (await debtor("POST", path, {"amount": "1"})).code == 201
    assert (await debtor("POST", f"{path}/pay", {})).body == {"transactions_paid": 2}
    assert (await debtor("POST", path, {"amount": "100000"})).code == 201


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"amount": "0"},
        {"amount": "-5"},
        {"amount": "9223372036854775808"},
        {"amount": "1.5"},
        {"amount": "1", "description": "x" * 501},
        {"amount": "1", "request_id": "x"},
    ],
    ids=str,
)
async def test_y7_what_makes_no_bill(debtor: Debtor, body: dict[str, str]) -> None:
    reply = await debtor("POST", "/v1/payment/transactions", body)
    assert reply.code == 400
    assert reply.reason in {"INVALID_ARGUMENT", "MALFORMED_REQUEST"}
    assert (await debtor("GET", "/v1/payment/transactions/list")).body["transactions"] == []


async def test_y7_bills_need_a_token_and_are_their_owners(debtor: Debtor, clients: Clients) -> None:
    other = Debtor(clients, await clients.register())
    made = (await debtor("POST", "/v1/payment/transactions", {"amount": "5"})).body
    foreign = await other("GET", f"/v1/payment/transactions/{made['id']}")
    assert (foreign.code, foreign.reason) == (404, "BILL_NOT_FOUND")
    assert (await other("POST", "/payment/transactions/pay", {})).body == {"transactions_paid": 0}
    for verb, path in (
        ("POST", "/v1/payment/transactions"),
        ("GET", "/v1/payment/transactions/list"),
        ("POST", "/payment/transactions/pay"),
        ("GET", "/v1/analytics/stats"),
        ("GET", "/stats"),
        ("GET", f"/v1/analytics/users/{debtor.id}"),
    ):
        nobody = await clients.rest.call(verb, path, {} if verb == "POST" else None)
        assert (nobody.code, nobody.reason) == (401, "TOKEN_MISSING"), path


async def test_y7_the_same_request_id_gives_the_same_status_and_body(debtor: Debtor) -> None:
    path, body = "/v1/payment/transactions", {"amount": "5", "request_id": str(uuid.uuid4())}
    first, again = [await debtor("POST", path, body) for _ in range(2)]
    assert (first.code, first.raw, first.headers["location"]) == (201, again.raw, again.headers["location"])
    assert again.code == 201
    other = await debtor("POST", path, {**body, "amount": "6"})
    assert (other.code, other.reason) == (409, "REQUEST_ID_REUSED")
    pay = {"request_id": str(uuid.uuid4())}
    done = [await debtor("POST", f"{path}/pay", pay) for _ in range(2)]
    assert [(one.code, one.body) for one in done] == [(200, {"transactions_paid": 1})] * 2


async def test_y7_and_n1_through_the_other_doors(debtor: Debtor, clients: Clients) -> None:
    for door in (clients.grpc, clients.grpc_web):

        async def ask(path: str, request: Message, answer: type[Message], door: Any = door) -> Reply:
            reply: Reply = await door.call(path, request.SerializeToString(), answer, token=debtor.token)
            return reply

        made = await ask(
            f"{SERVICE}/CreateBill", pb.CreateBillRequest(amount=40_000, description="rent"), pb.Bill
        )
        assert (made.reason, made.body["amount"], made.body["status"]) == ("", "40000", "pending")
        listed = await ask(f"{SERVICE}/ListBills", pb.ListBillsRequest(), pb.ListBillsResponse)
        assert listed.body["transactions"][0] == made.body
        over = await ask(f"{SERVICE}/CreateBill", pb.CreateBillRequest(amount=70_000), pb.Bill)
        assert over.reason == "BILL_CAP_EXCEEDED"
        paid = await ask(f"{SERVICE}/PayBills", pb.PayBillsRequest(), pb.PayBillsResponse)
        assert paid.body["transactions_paid"] == 1
        shown = await ask(f"{ANALYTICS}/GetStats", figures.GetStatsRequest(), figures.Stats)
        assert shown.reason == ""
        somebody = figures.GetUserStatsRequest(id=str(uuid.uuid4()))
        other = await ask(f"{ANALYTICS}/GetUserStats", somebody, figures.UserStats)
        assert other.reason == "PERMISSION_DENIED"
        internal = await ask(
            "/sampan.payment.v1.PaymentInternalService/ListBillTotals",
            pb.ListBillTotalsRequest(),
            pb.ListBillTotalsResponse,
        )
        assert internal.reason == "ROUTE_NOT_FOUND"
    await until(debtor.figures, (2, "80000", 2, 4), within=VISIBLE)


@pytest.mark.parametrize("path", ["/v1/analytics/stats", "/stats"])
async def test_n1_statistics_follow(debtor: Debtor, path: str) -> None:
    async def stats() -> dict[str, int]:
        reply = await debtor("GET", path)
        assert (reply.code, set(reply.body)) == (200, STATS)
        # An amount is a text, counts are numbers.
        assert isinstance(reply.body["total_amount"], str)
        return {name: int(value) for name, value in reply.body.items()}

    before = await stats()
    await debtor("POST", "/v1/payment/transactions", {"amount": "25050"})
    await until(debtor.figures, (1, "25050", 0, 1), within=VISIBLE)
    await debtor("POST", "/v1/payment/transactions/pay", {})
    await until(debtor.figures, (1, "25050", 1, 2), within=VISIBLE)
    # Other tests have bills, too.
    after = await stats()
    assert after["total_transactions"] > before["total_transactions"]
    assert after["total_amount"] >= before["total_amount"] + 25_050
    assert after["total_paid_transactions"] > before["total_paid_transactions"]
    assert after["events_processed"] >= before["events_processed"] + 2
    assert after["unique_users"] > before["unique_users"]


async def test_n1_somebody_elses_figures_are_for_admins(
    stack: Stack, debtor: Debtor, clients: Clients
) -> None:
    person = await clients.register()
    path = f"/v1/analytics/users/{debtor.id}"
    refused = await Debtor(clients, person)("GET", path)
    assert (refused.code, refused.reason) == (403, "PERMISSION_DENIED")
    assert stack.command("admin", "grant", person.username).returncode == 0
    body = {"username": person.username, "password": person.password}

    async def signed_in() -> int:
        return (await clients.rest.call("POST", "/v1/auth/login", body)).code

    await until(signed_in, 200, within=20)
    token = (await clients.rest.call("POST", "/v1/auth/login", body)).body["access_token"]
    shown = await clients.rest.call("GET", path, token=token)
    assert (shown.code, shown.body["user_id"], shown.body["total_amount"]) == (200, debtor.id, "0")


async def test_the_operator_has_figures_made_anew(stack: Stack, debtor: Debtor) -> None:
    await debtor("POST", "/v1/payment/transactions", {"amount": "11"})
    await until(debtor.figures, (1, "11", 0, 1), within=20)
    owner = await asyncpg.connect(stack.addresses.database("analytics", owner=True))
    try:
        wrong = "UPDATE user_stats SET amount = 5, paid = 9 WHERE user_id = $1"
        await owner.execute(wrong, uuid.UUID(debtor.id))
        assert await debtor.figures() == (1, "5", 9, 1)
        done = stack.command("analytics", "rebuild")
        assert (done.returncode, done.stdout.strip()) == (0, "all figures are made anew"), done.stderr
        assert await debtor.figures() == (1, "11", 0, 1)
    finally:
        await owner.close()
