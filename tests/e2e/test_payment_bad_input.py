"""What is wrong with a payment is refused with its reason through every door, and moves nothing."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from sampan.payment.v1 import payment_service_pb2 as pb
from sampan.payment.v1 import top_up_pb2
from sampan.payment.v1.hold_pb2 import Hold
from sampan.payment.v1.transaction_pb2 import Transaction
from services.payment.providers.signing import Signer
from services.stack import secrets
from tests.support.clients import Clients, Person
from tests.support.doors import problem
from tests.support.money import fund, lies
from tests.support.stack import Stack

SERVICE = "/sampan.payment.v1.PaymentService"
CALLBACK = "/v1/providers/sandbox/callback"
NOBODY = str(uuid.uuid4())
BIG = 2**63 - 1
STATUS = {"INVALID_ARGUMENT": 400, "CURRENCY_MISMATCH": 400, "SELF_TRANSFER": 400, "AMOUNT_TOO_LARGE": 400}
STATUS |= {"WALLET_NOT_FOUND": 404, "RECIPIENT_NOT_FOUND": 404, "HOLD_NOT_FOUND": 404}
STATUS |= {"TRANSACTION_NOT_FOUND": 404, "INSUFFICIENT_FUNDS": 409, "CAPTURE_EXCEEDED": 409}
STATUS |= {"REFUND_EXCEEDED": 409, "PERMISSION_DENIED": 403, "DAILY_LIMIT_EXCEEDED": 429}


@dataclass(frozen=True)
class Method:
    """A method, its request and answer, and its path with what of the request stands in it."""

    request: type[Message]
    answer: type[Message]
    path: str
    inside: str = ""


METHODS = {
    "SendMoney": Method(pb.SendMoneyRequest, Transaction, "/v1/transactions/send"),
    "CreateHold": Method(pb.CreateHoldRequest, Hold, "/v1/holds"),
    "CreateTopUp": Method(top_up_pb2.CreateTopUpRequest, top_up_pb2.TopUp, "/v1/transactions/topup"),
    "CaptureHold": Method(
        pb.CaptureHoldRequest, pb.CaptureHoldResponse, "/v1/holds/{hold_id}/capture", "hold_id"
    ),
    "CreateRefund": Method(
        pb.CreateRefundRequest, Transaction, "/v1/transactions/{transaction_id}/refunds", "transaction_id"
    ),
}
# Wrong for whatever takes money out of a wallet.
SPENDING = (
    ({"currency": "SGD"}, "CURRENCY_MISMATCH"),
    ({"currency": "baht"}, "INVALID_ARGUMENT"),
    ({"recipient_id": "me"}, "SELF_TRANSFER"),
    ({"recipient_id": NOBODY}, "RECIPIENT_NOT_FOUND"),
    ({"recipient_id": "malee"}, "INVALID_ARGUMENT"),
    ({"amount": 0}, "INVALID_ARGUMENT"),
    ({"amount": -1}, "INVALID_ARGUMENT"),
    ({"amount": BIG}, "INVALID_ARGUMENT"),
    ({"amount": 601_000}, "INSUFFICIENT_FUNDS"),
    ({"amount": 500_001}, "DAILY_LIMIT_EXCEEDED"),
    ({"wallet_id": NOBODY}, "WALLET_NOT_FOUND"),
    ({"wallet_id": "theirs"}, "WALLET_NOT_FOUND"),
)
WRONG: dict[str, tuple[tuple[dict[str, Any], str], ...]] = {
    "SendMoney": SPENDING,
    "CreateHold": (*SPENDING, ({"expires_in": 2_592_001}, "INVALID_ARGUMENT")),
    "CreateTopUp": (
        ({"currency": "SGD"}, "CURRENCY_MISMATCH"),
        ({"method": "paynow"}, "CURRENCY_MISMATCH"),
        ({"method": "cash"}, "INVALID_ARGUMENT"),
        ({"amount": 0}, "INVALID_ARGUMENT"),
        ({"amount": -1}, "INVALID_ARGUMENT"),
        ({"amount": BIG}, "AMOUNT_TOO_LARGE"),
        ({"wallet_id": NOBODY}, "WALLET_NOT_FOUND"),
        ({"wallet_id": "theirs"}, "WALLET_NOT_FOUND"),
    ),
    "CaptureHold": (
        ({"amount": 101}, "CAPTURE_EXCEEDED"),
        ({"amount": BIG}, "CAPTURE_EXCEEDED"),
        ({"amount": -1}, "INVALID_ARGUMENT"),
        ({"hold_id": NOBODY}, "HOLD_NOT_FOUND"),
    ),
    # Asked by who paid: nobody gives back to themselves.
    "CreateRefund": (
        ({}, "PERMISSION_DENIED"),
        ({"amount": -1}, "INVALID_ARGUMENT"),
        ({"transaction_id": NOBODY}, "TRANSACTION_NOT_FOUND"),
    ),
}
CASES = [
    pytest.param(method, change, reason, id=f"{method}-{reason}-{number}")
    for method, all_of_it in WRONG.items()
    for number, (change, reason) in enumerate(all_of_it)
]


@dataclass(frozen=True)
class Pair:
    """Two people with 601,000 satang less what one has paid the other and holds for them: 100 each."""

    clients: Clients
    owner: asyncpg.Connection
    one: Person
    other: Person
    mine: str
    theirs: str
    hold: str
    paid: str

    def fields(self, method: str, change: dict[str, Any]) -> dict[str, Any]:
        """A good request, changed."""
        good: dict[str, Any] = {"wallet_id": self.mine, "recipient_id": self.other.id, "amount": 1}
        good |= {"currency": "THB", "method": "promptpay"}
        good |= {"hold_id": self.hold, "transaction_id": self.paid}
        names = {"me": self.one.id, "theirs": self.theirs}
        changed = {key: names.get(str(value), value) for key, value in change.items()}
        known = METHODS[method].request.DESCRIPTOR.fields_by_name
        return {key: value for key, value in (good | changed).items() if key in known}

    async def refusals(self, method: str, fields: dict[str, Any], who: Person) -> list[tuple[int, str]]:
        """What each door says, with the status of REST and 0 for the others."""
        how = METHODS[method]
        body = {key: value for key, value in fields.items() if key != how.inside}
        path = how.path.format(**fields)
        rest = await self.clients.rest.call("POST", path, body, token=who.token)
        raw = how.request(**fields).SerializeToString()
        told = [
            await door.call(f"{SERVICE}/{method}", raw, how.answer, token=who.token)
            for door in (self.clients.grpc, self.clients.grpc_web)
        ]
        return [(rest.code, rest.reason), *((0, reply.reason) for reply in told)]

    async def books(self) -> list[tuple[Any, ...]]:
        """What both have, and how often it moved."""
        rows = await self.owner.fetch(
            "SELECT balance, held, seq, spent_today FROM accounts WHERE id = ANY ($1::uuid[]) ORDER BY id",
            [uuid.UUID(self.mine), uuid.UUID(self.theirs)],
        )
        assert await lies(self.owner) == []
        return [tuple(row) for row in rows]


@pytest.fixture
async def pair(stack: Stack, clients: Clients) -> AsyncIterator[Pair]:
    owner = await asyncpg.connect(stack.addresses.database("payment", owner=True))
    people, wallets = [await clients.register() for _ in range(2)], []
    for person in people:
        made = await clients.rest.call("POST", "/v1/wallets", {"currency": "THB"}, token=person.token)
        wallets.append(made.body["id"])
        await fund(owner, wallets[-1], 601_000)
    body = {"wallet_id": wallets[0], "recipient_id": people[1].id, "amount": 100, "currency": "THB"}
    hold = await clients.rest.call("POST", "/v1/holds", body, token=people[0].token)
    paid = await clients.rest.call("POST", "/v1/transactions/send", body, token=people[0].token)
    yield Pair(clients, owner, *people, *wallets, hold.body["id"], paid.body["id"])
    await owner.close()


@pytest.mark.parametrize(("method", "change", "reason"), CASES)
async def test_what_is_wrong_is_refused_through_every_door(
    pair: Pair, method: str, change: dict[str, Any], reason: str
) -> None:
    before = await pair.books()
    told = await pair.refusals(method, pair.fields(method, change), pair.one)
    assert told == [(STATUS[reason], reason), (0, reason), (0, reason)]
    assert await pair.books() == before


async def test_no_more_is_given_back_than_was_paid_through_every_door(pair: Pair) -> None:
    before = await pair.books()
    for amount in (101, BIG):
        fields = pair.fields("CreateRefund", {"amount": amount})
        told = await pair.refusals("CreateRefund", fields, pair.other)
        assert told == [(409, "REFUND_EXCEEDED"), (0, "REFUND_EXCEEDED"), (0, "REFUND_EXCEEDED")]
    assert await pair.books() == before


@pytest.mark.parametrize("amount", [2**63, str(-(2**63) - 1), 1.5, "1.50", "many", [], {}, True])
async def test_what_is_no_amount_cannot_be_read(pair: Pair, amount: Any) -> None:
    before = await pair.books()
    for method in ("SendMoney", "CreateHold", "CreateTopUp", "CaptureHold", "CreateRefund"):
        fields = pair.fields(method, {})
        path = METHODS[method].path.format(**fields)
        body = {key: value for key, value in fields.items() if key != METHODS[method].inside}
        reply = await pair.clients.rest.call("POST", path, body | {"amount": amount}, token=pair.one.token)
        assert (method, reply.code, reply.reason) == (method, 400, "MALFORMED_REQUEST")
    assert await pair.books() == before


@dataclass(frozen=True)
class Bank:
    """Says things of a top-up, through REST and gRPC."""

    clients: Clients
    signer: Signer
    reference: str

    def body(self, event: str = "payment.completed", **more: Any) -> bytes:
        said = {"event": event, "payment_id": str(uuid.uuid4()), "method": "promptpay", "currency": "THB"}
        said |= {"reference": self.reference, "amount": 500, "at": "2026-01-01T00:00:00Z"}
        return json.dumps(said | more).encode()

    async def told(self, body: bytes, headers: dict[str, str]) -> list[tuple[int, str]]:
        """What both doors say: status and reason, or the outcome."""
        plain = {"content-type": "application/json", **headers}
        rest = problem(await self.clients.http.post(CALLBACK, content=body, headers=plain))
        request = top_up_pb2.ReceiveCallbackRequest(
            provider="sandbox", body=HttpBody(content_type="application/json", data=body)
        )
        raw = request.SerializeToString()
        grpc = await self.clients.grpc.call(
            f"{SERVICE}/ReceiveCallback",
            raw,
            top_up_pb2.ReceiveCallbackResponse,
            metadata=tuple(headers.items()),
        )
        return [
            (
                reply.code,
                reply.reason or f"{reply.body['outcome']} {reply.body.get('repeated_before', False)}",
            )
            for reply in (rest, grpc)
        ]


@pytest.fixture
async def bank(pair: Pair, stack: Stack) -> Bank:
    """A bank that is to be paid 500 by the first of the pair."""
    fields = pair.fields("CreateTopUp", {"amount": 500})
    made = await pair.clients.rest.call("POST", "/v1/transactions/topup", fields, token=pair.one.token)
    text = (stack.home / secrets.FILE).read_text()
    signer = Signer(bytes.fromhex(secrets.Secrets.from_json(text).provider_keys["sandbox"]))
    return Bank(pair.clients, signer, made.body["reference"])


async def test_forged_stale_and_senseless_callbacks_move_nothing(pair: Pair, bank: Bank) -> None:
    before, now, body = await pair.books(), int(time.time()), bank.body()
    other = bank.body(amount=501)
    for told, headers, code, reason in (
        (body, {}, 401, "SIGNATURE_INVALID"),
        (body, Signer(bytes(32)).headers(body, now), 401, "SIGNATURE_INVALID"),
        (other, bank.signer.headers(body, now), 401, "SIGNATURE_INVALID"),
        (body, bank.signer.headers(body, now - 400), 401, "CALLBACK_STALE"),
        (body, bank.signer.headers(body, now + 400), 401, "CALLBACK_STALE"),
        (b"{}", bank.signer.headers(b"{}", now), 400, "CALLBACK_MALFORMED"),
    ):
        rest, grpc = await bank.told(told, headers)
        assert (rest, grpc[1]) == ((code, reason), reason)
    assert await pair.books() == before


async def test_an_expired_qr_is_not_paid_through_any_door(pair: Pair, bank: Bank) -> None:
    before = await pair.books()
    expired = "UPDATE top_ups SET expires_at = now() - interval '1 second' WHERE reference = $1"
    await pair.owner.execute(expired, bank.reference)
    body = bank.body("payment.started")
    rest, grpc = await bank.told(body, bank.signer.headers(body, int(time.time())))
    assert (rest, grpc[1]) == ((409, "QR_EXPIRED"), "QR_EXPIRED")
    assert await pair.books() == before


async def test_a_callback_that_is_repeated_through_both_doors_credits_once(pair: Pair, bank: Bank) -> None:
    before, body = await pair.books(), bank.body(at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    headers = bank.signer.headers(body, int(time.time()))
    first, second = await bank.told(body, headers), await bank.told(body, headers)
    assert [what for _, what in (*first, *second)] == ["credited False", *["credited True"] * 3]
    said = json.loads(body) | {"amount": 501}
    changed = json.dumps(said).encode()
    rest, grpc = await bank.told(changed, bank.signer.headers(changed, int(time.time())))
    assert (rest, grpc[1]) == ((409, "CALLBACK_CONFLICT"), "CALLBACK_CONFLICT")
    had, has = sum(row[0] for row in before), sum(row[0] for row in await pair.books())
    assert has - had == 500
