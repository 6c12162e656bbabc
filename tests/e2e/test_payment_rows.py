"""The payment rows of the contract, by the letter, over REST and the other doors."""

from __future__ import annotations

import csv
import io
import uuid
from typing import Any

import asyncpg

from sampan.payment.v1 import payment_service_pb2 as pb
from sampan.payment.v1.transaction_pb2 import Transaction
from tests.support.clients import Clients, Person
from tests.support.doors import Reply
from tests.support.money import fund
from tests.support.stack import Stack

SERVICE = "/sampan.payment.v1.PaymentService"
WALLET = {"id", "currency", "balance", "held", "available", "limits", "created_at"}


async def rich(stack: Stack, clients: Clients, amount: int = 100_000) -> tuple[Person, str]:
    """Somebody who registered, with so much in a wallet."""
    person = await clients.register()
    made = await ask(clients, person, "POST", "/v1/wallets", {"currency": "THB"}, code=201)
    if amount:
        owner = await asyncpg.connect(stack.addresses.database("payment", owner=True))
        await fund(owner, made["id"], amount)
        await owner.close()
    return person, made["id"]


async def ask(
    clients: Clients, person: Person, verb: str, path: str, body: Any = None, *, code: int = 200
) -> dict[str, Any]:
    """The body of an answer with the wanted status."""
    reply = await clients.rest.call(verb, path, body, token=person.token)
    assert reply.code == code, (verb, path, reply)
    return dict(reply.body)


def sending(wallet: str, recipient: str, amount: object = "1000", **more: object) -> dict[str, object]:
    return {"wallet_id": wallet, "recipient_id": recipient, "amount": amount, "currency": "THB", **more}


async def test_y1_a_wallet_is_made_once_for_each_currency(clients: Clients) -> None:
    person = await clients.register()
    for path, currency in (("/v1/wallets", "THB"), ("/wallets", "IDR")):
        reply = await clients.rest.call("POST", path, {"currency": currency}, token=person.token)
        assert reply.code == 201
        assert set(reply.body) == WALLET
        assert (reply.body["currency"], reply.body["balance"], reply.body["available"]) == (
            currency,
            "0",
            "0",
        )
        assert reply.headers["location"] == f"/v1/wallets/{reply.body['id']}"
        again = await clients.rest.call("POST", path, {"currency": currency}, token=person.token)
        assert (again.code, again.reason) == (409, "WALLET_EXISTS")
    assert int(reply.body["limits"]["daily"]) > 0
    other = await clients.rest.call("POST", "/v1/wallets", {"currency": "EUR"}, token=person.token)
    assert (other.code, other.reason) == (400, "INVALID_ARGUMENT")
    assert (await clients.rest.call("POST", "/v1/wallets", {"currency": "THB"})).code == 401


async def test_y2_wallets_are_listed(clients: Clients) -> None:
    person = await clients.register()
    made = [await ask(clients, person, "POST", "/wallets", {"currency": c}, code=201) for c in ("THB", "SGD")]
    for path in ("/v1/wallets", "/wallets"):
        assert await ask(clients, person, "GET", path) == {"wallets": made}
    assert await ask(clients, person, "GET", f"/v1/wallets/{made[0]['id']}") == made[0]


async def test_y4_money_is_sent(stack: Stack, clients: Clients) -> None:
    (one, wallet), (other, to) = await rich(stack, clients), await rich(stack, clients, 0)
    for path in ("/v1/transactions/send", "/transactions/send"):
        request_id = str(uuid.uuid4())
        body = sending(wallet, other.id, description="for the batik", request_id=request_id)
        reply = await clients.rest.call("POST", path, body, token=one.token)
        assert reply.code == 201
        assert {"id", "status", "fee", "balance_after"} <= set(reply.body)
        assert (reply.body["status"], reply.body["fee"], reply.body["amount"]) == ("completed", "0", "1000")
        assert reply.headers["location"] == f"/v1/transactions/{reply.body['id']}"
        again = await clients.rest.call("POST", path, body, token=one.token)
        assert (again.code, again.body) == (201, reply.body)
    # Numbers are taken for amounts, too.
    await ask(clients, one, "POST", "/transactions/send", sending(wallet, other.id, 5), code=201)
    assert (await ask(clients, other, "GET", f"/v1/wallets/{to}"))["balance"] == "2005"


async def test_y4_what_is_wrong_is_refused_alike_through_the_doors(stack: Stack, clients: Clients) -> None:
    (one, wallet), (other, to) = await rich(stack, clients, 600_000), await rich(stack, clients, 0)
    nobody, poor = str(uuid.uuid4()), await clients.register()
    cases = (
        (sending(wallet, other.id, "600001"), 409, "INSUFFICIENT_FUNDS"),
        (sending(wallet, other.id, "500001"), 429, "DAILY_LIMIT_EXCEEDED"),
        (sending(wallet, nobody), 404, "RECIPIENT_NOT_FOUND"),
        (sending(wallet, poor.id), 404, "RECIPIENT_NOT_FOUND"),
        (sending(to, other.id), 404, "WALLET_NOT_FOUND"),
        (sending(nobody, other.id), 404, "WALLET_NOT_FOUND"),
        (sending(wallet, other.id) | {"currency": "SGD"}, 400, "CURRENCY_MISMATCH"),
        (sending(wallet, one.id), 400, "SELF_TRANSFER"),
        (sending(wallet, other.id, "0"), 400, "INVALID_ARGUMENT"),
        (sending(wallet, other.id, "-5"), 400, "INVALID_ARGUMENT"),
        (sending(wallet, other.id, str(2**63)), 400, "MALFORMED_REQUEST"),
        (sending(wallet, other.id, "1.50"), 400, "MALFORMED_REQUEST"),
    )
    for body, code, reason in cases:
        reply = await clients.rest.call("POST", "/v1/transactions/send", body, token=one.token)
        assert (reply.code, reply.reason) == (code, reason), body
        if reason != "MALFORMED_REQUEST":
            request = pb.SendMoneyRequest(**{**body, "amount": int(str(body["amount"]))}).SerializeToString()
            for door in (clients.grpc, clients.grpc_web):
                told: Reply = await door.call(f"{SERVICE}/SendMoney", request, Transaction, token=one.token)
                assert told.reason == reason, (door, body)
    assert (await ask(clients, one, "GET", f"/v1/wallets/{wallet}"))["balance"] == "600000"


async def test_y5_transactions_are_listed_and_read_with_their_trail(stack: Stack, clients: Clients) -> None:
    (one, wallet), (other, _) = await rich(stack, clients), await rich(stack, clients, 0)
    made = [
        await ask(clients, one, "POST", "/v1/transactions/send", sending(wallet, other.id), code=201)
        for _ in range(3)
    ]
    for path in ("/v1/transactions", "/transactions"):
        page = await ask(clients, one, "GET", f"{path}?wallet_id={wallet}&kind=send&limit=2")
        assert [row["id"] for row in page["transactions"]] == [made[2]["id"], made[1]["id"]]
        rest = await ask(
            clients,
            one,
            "GET",
            f"{path}?wallet_id={wallet}&kind=send&limit=2&page_token={page['next_page_token']}",
        )
        assert ([row["id"] for row in rest["transactions"]], rest["has_more"]) == ([made[0]["id"]], False)
        first = made[1]["created_at"]
        since = await ask(clients, one, "GET", f"{path}?kind=send&from_time={first}")
        assert [row["id"] for row in since["transactions"]] == [made[2]["id"], made[1]["id"]]
        seen = await ask(clients, other, "GET", f"{path}/{made[0]['id']}")
        assert (seen["direction"], [entry["event"] for entry in seen["audit"]]) == ("in", ["posted"])
    stranger = await clients.register()
    reply = await clients.rest.call("GET", f"/v1/transactions/{made[0]['id']}", token=stranger.token)
    assert (reply.code, reply.reason) == (404, "TRANSACTION_NOT_FOUND")


async def test_y6_money_is_held_captured_voided_and_refunded(stack: Stack, clients: Clients) -> None:
    (one, wallet), (other, _) = await rich(stack, clients), await rich(stack, clients, 0)
    hold = await ask(clients, one, "POST", "/v1/holds", sending(wallet, other.id, "500"), code=201)
    assert (hold["status"], hold["remaining"]) == ("pending", "500")
    assert (await ask(clients, one, "GET", f"/v1/wallets/{wallet}"))["held"] == "500"
    path = f"/v1/holds/{hold['id']}"
    done = await ask(clients, other, "POST", f"{path}/capture", {"amount": "200"})
    assert (done["hold"]["remaining"], done["transaction"]["amount"]) == ("300", "200")
    reply = await clients.rest.call("POST", f"{path}/capture", {"amount": "301"}, token=other.token)
    assert (reply.code, reply.reason) == (409, "CAPTURE_EXCEEDED")
    assert (await ask(clients, other, "POST", f"{path}/void", {}))["hold"]["status"] == "voided"
    assert (await ask(clients, one, "GET", path))["status"] == "voided"
    assert [row["id"] for row in (await ask(clients, one, "GET", "/v1/holds"))["holds"]] == [hold["id"]]
    refunds = f"/v1/transactions/{done['transaction']['id']}/refunds"
    back = await ask(clients, other, "POST", refunds, {"amount": "50"}, code=201)
    assert (back["kind"], back["amount"]) == ("refund", "50")
    reply = await clients.rest.call("POST", refunds, {"amount": "151"}, token=other.token)
    assert (reply.code, reply.reason) == (409, "REFUND_EXCEEDED")
    assert (await ask(clients, one, "GET", f"/v1/wallets/{wallet}"))["balance"] == "99850"


async def test_y8_a_statement_is_csv_and_the_books_reconcile(stack: Stack, clients: Clients) -> None:
    (one, wallet), (other, _) = await rich(stack, clients), await rich(stack, clients, 0)
    body = sending(wallet, other.id, description="ผ้า, batik")
    await ask(clients, one, "POST", "/v1/transactions/send", body, code=201)
    answer = await clients.http.get(
        f"/v1/wallets/{wallet}/statement", headers={"authorization": f"Bearer {one.token}"}
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
    assert [(row["kind"], row["amount"], row["balance_after"]) for row in rows] == [
        ("topup", "100000", "100000"),
        ("send", "-1000", "99000"),
    ]
    assert rows[1]["description"] == "ผ้า, batik"
    done = stack.command("payment", "reconcile")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].endswith("clean")
    assert '"broken": []' in stack.command("payment", "reconcile", "--json").stdout
