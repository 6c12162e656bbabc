"""Top-ups through the edge, paid at the sandbox bank as a developer does it."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from sampan.payment.v1 import top_up_pb2 as pb
from services.payment.providers.signing import Signer
from services.stack import secrets
from tests.support.clients import Clients, Person
from tests.support.doors import Reply
from tests.support.scanning import scanned
from tests.support.stack import Stack
from tests.support.waiting import until

SERVICE = "/sampan.payment.v1.PaymentService"
CALLBACK = "/v1/providers/sandbox/callback"
FIELDS = {
    "id",
    "wallet_id",
    "amount",
    "currency",
    "method",
    "status",
    "reference",
    "qr_payload",
    "qr_png",
    "expires_at",
    "created_at",
    "paid_amount",
    "review_reason",
    "history",
}
WITHIN = 20
PREFIXES = pytest.mark.parametrize("prefix", ["/v1", ""])


@dataclass(frozen=True)
class Customer:
    """Somebody with a wallet of THB."""

    clients: Clients
    stack: Stack
    person: Person
    wallet: str

    @classmethod
    async def new(cls, clients: Clients, stack: Stack) -> Customer:
        """A new one."""
        person = await clients.register()
        made = await clients.rest.call("POST", "/v1/wallets", {"currency": "THB"}, token=person.token)
        return cls(clients, stack, person, made.body["id"])

    def wanted(self, amount: int = 25_000) -> dict[str, Any]:
        """The body of a top-up."""
        return {"wallet_id": self.wallet, "amount": amount, "currency": "THB", "method": "promptpay"}

    async def ask(self, body: dict[str, Any], prefix: str = "/v1") -> Reply:
        """A top-up over REST."""
        return await self.clients.rest.call(
            "POST", f"{prefix}/transactions/topup", body, token=self.person.token
        )

    async def asked(self) -> dict[str, Any]:
        """A good one."""
        reply = await self.ask(self.wanted())
        assert reply.code == 201, reply
        return dict(reply.body)

    async def pay(self, qr: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Goes to the bank."""
        return await asyncio.to_thread(self.stack.command, "bank", "pay", qr, *options)

    async def status(self, top_up_id: str) -> str:
        """Of a top-up."""
        path = f"/v1/transactions/topup/{top_up_id}"
        found = await self.clients.rest.call("GET", path, token=self.person.token)
        return str(found.body["status"])

    async def balance(self) -> int:
        """What is in the wallet."""
        path = f"/v1/wallets/{self.wallet}"
        found = await self.clients.rest.call("GET", path, token=self.person.token)
        return int(found.body["balance"])


@pytest.fixture
async def customer(clients: Clients, stack: Stack) -> Customer:
    return await Customer.new(clients, stack)


@PREFIXES
async def test_asking_answers_201_with_a_qr_that_scans(customer: Customer, prefix: str) -> None:
    body = customer.wanted() | {"request_id": str(uuid.uuid4())}
    reply = await customer.ask(body, prefix)
    assert reply.code == 201
    assert reply.headers["location"] == f"/v1/transactions/topup/{reply.body['id']}"
    assert set(reply.body) == FIELDS
    assert (reply.body["status"], reply.body["amount"]) == ("pending", "25000")
    assert scanned(base64.b64decode(reply.body["qr_png"])) == [reply.body["qr_payload"]]
    assert reply.body["qr_payload"].startswith("000201010212" + "29")
    again = await customer.ask(body, prefix)
    assert (again.code, again.raw) == (201, reply.raw)
    shown = await customer.clients.rest.call("GET", reply.headers["location"], token=customer.person.token)
    assert (shown.code, shown.body) == (200, reply.body)
    other = await customer.ask(body | {"amount": 1}, prefix)
    assert (other.code, other.reason) == (409, "REQUEST_ID_REUSED")


async def test_what_the_bank_took_is_in_the_wallet(customer: Customer) -> None:
    made = await customer.asked()
    done = await customer.pay(made["qr_payload"])
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["amount"], said["currency"], said["reference"]) == ("25000", "THB", made["reference"])
    assert [(one["event"], one["status"], one["outcome"]) for one in said["callbacks"]] == [
        ("payment.started", 200, "accepted"),
        ("payment.completed", 200, "credited"),
    ]
    assert await customer.status(made["id"]) == "completed"
    assert await customer.balance() == 25_000
    second = await customer.pay(made["qr_payload"])
    assert (second.returncode, second.stdout) == (1, "")
    assert "paid already" in second.stderr
    again = await customer.pay(made["qr_payload"], "--again")
    assert again.returncode == 1
    assert "TOP_UP_SETTLED" in again.stderr
    assert await customer.balance() == 25_000


async def test_a_bank_that_repeats_itself_out_of_order_credits_once(customer: Customer) -> None:
    made = await customer.asked()
    done = await customer.pay(made["qr_payload"], "--repeat", "3", "--reorder", "--delay", "0.2")
    assert done.returncode == 0, done.stderr
    events = [(one["event"], one["status"]) for one in json.loads(done.stdout)["callbacks"]]
    assert events == [("payment.completed", 200)] * 4 + [("payment.started", 200)] * 4
    assert await customer.status(made["id"]) == "completed"
    assert await customer.balance() == 25_000


async def test_a_wrong_amount_is_held_for_review_and_not_credited(customer: Customer) -> None:
    made = await customer.asked()
    done = await customer.pay(made["qr_payload"], "--amount", "24999")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["callbacks"][-1]["outcome"] == "review"
    assert await customer.status(made["id"]) == "review"
    assert await customer.balance() == 0


async def test_money_of_which_the_bank_never_tells_comes_all_the_same(customer: Customer) -> None:
    made = await customer.asked()
    done = await customer.pay(made["qr_payload"], "--time-out")
    assert done.returncode == 0, done.stderr
    assert await customer.status(made["id"]) == "processing"
    await until(lambda: customer.status(made["id"]), "completed", within=WITHIN)
    assert await customer.balance() == 25_000


async def test_a_customer_who_declines_may_pay_later(customer: Customer) -> None:
    made = await customer.asked()
    declined = await customer.pay(made["qr_payload"], "--decline")
    assert (declined.returncode, declined.stdout) == (1, "")
    assert await customer.status(made["id"]) == "pending"
    assert (await customer.pay(made["qr_payload"])).returncode == 0
    assert await customer.balance() == 25_000


async def test_the_bank_reads_the_qr_from_stdin_and_refuses_what_is_none(customer: Customer) -> None:
    made = await customer.asked()
    wrong = await customer.pay(made["qr_payload"][:-1] + "!")
    assert wrong.returncode == 1
    assert "cannot read this QR" in wrong.stderr
    nothing = await customer.pay("-")
    assert nothing.returncode == 1
    assert await customer.status(made["id"]) == "pending"


async def test_top_ups_are_the_same_over_grpc(customer: Customer) -> None:
    token = customer.person.token
    request = pb.CreateTopUpRequest(**customer.wanted()).SerializeToString()
    made = await customer.clients.grpc.call(f"{SERVICE}/CreateTopUp", request, pb.TopUp, token=token)
    assert made.body["status"] == "pending", made
    assert (await customer.pay(made.body["qr_payload"])).returncode == 0
    found = await customer.clients.grpc_web.call(
        f"{SERVICE}/GetTopUp",
        pb.GetTopUpRequest(id=made.body["id"]).SerializeToString(),
        pb.TopUp,
        token=token,
    )
    assert found.body["status"] == "completed"
    listed = await customer.clients.rest.call("GET", "/v1/transactions/topup", token=token)
    assert [one["id"] for one in listed.body["top_ups"]] == [made.body["id"]]
    assert listed.body["top_ups"][0]["qr_png"] == ""


def signer(stack: Stack) -> Signer:
    """The bank's own."""
    text = (stack.home / secrets.FILE).read_text()
    return Signer(bytes.fromhex(secrets.Secrets.from_json(text).provider_keys["sandbox"]))


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/octet-stream"])
async def test_a_callback_is_read_as_it_was_signed(
    customer: Customer, stack: Stack, content_type: str
) -> None:
    made = await customer.asked()
    # White space and unknown fields that no transcoder may touch.
    body = (
        f'{{ "event":"payment.completed",\t"payment_id":"{uuid.uuid4()}", "method":"promptpay", '
        f'"reference":"{made["reference"]}", "amount":25000, "currency":"THB", '
        '"at":"2026-01-01T00:00:00Z", "more": 1.50 }'
    )
    headers = signer(stack).headers(body.encode(), int(time.time())) | {"content-type": content_type}
    answer = await customer.clients.http.post(CALLBACK, content=body.encode(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"outcome": "credited", "repeated_before": False, "top_up_id": made["id"]}
    assert await customer.balance() == 25_000


async def test_a_callback_of_somebody_else_is_refused_with_a_reason(customer: Customer, stack: Stack) -> None:
    made = await customer.asked()
    body = json.dumps({"event": "payment.completed", "reference": made["reference"]}).encode()
    good = signer(stack)
    now = int(time.time())
    for headers, code, why in (
        ({}, 401, "SIGNATURE_INVALID"),
        (Signer(bytes(32)).headers(body, now), 401, "SIGNATURE_INVALID"),
        (good.headers(body, now - 1000), 401, "CALLBACK_STALE"),
        (good.headers(body, now), 400, "CALLBACK_MALFORMED"),
    ):
        answer = await customer.clients.http.post(
            CALLBACK, content=body, headers={"content-type": "application/json", **headers}
        )
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()["reason"]) == (code, why)
    other = await customer.clients.http.post("/v1/providers/other/callback", content=body)
    assert (other.status_code, other.json()["reason"]) == (404, "PROVIDER_NOT_FOUND")
    assert await customer.status(made["id"]) == "pending"
