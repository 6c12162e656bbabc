"""What was answered under a `request_id` is the answer for ever, to the byte, whatever has happened since."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from google.protobuf.message import Message

from sampan.payment.v1 import bill_pb2
from sampan.payment.v1 import payment_internal_service_pb2 as internal
from sampan.payment.v1 import payment_service_pb2 as pb
from sampan.payment.v1.top_up_pb2 import CreateTopUpRequest, ListTopUpsRequest
from sampan.payment.v1.wallet_pb2 import Wallet
from services.stack.pki import Pki
from tests.support.banking import Till, till
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.money import fund
from tests.support.payment import Payer

MONTH = "UPDATE idempotency SET created_at = created_at - interval '40 days'"


@dataclass(frozen=True)
class Case:
    """A request and another one of the same person, and what happens after the first."""

    request: Message
    other: Message
    send: Callable[[Message], Awaitable[Message]]
    since: Callable[[], Awaitable[object]]

    async def answer(self, request: Message, request_id: str) -> bytes:
        """The answer to a request under an id."""
        copy = type(request)()
        copy.CopyFrom(request)
        copy.request_id = request_id  # type: ignore[attr-defined]
        return (await self.send(copy)).SerializeToString()


@pytest.fixture(scope="module")
async def shop(
    payment_database: Clone, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    async with till(payment_database, pki, tmp_path_factory.mktemp("till")) as found:
        yield found


async def two(shop: Till) -> tuple[Payer, Wallet, Payer, Wallet]:
    """Somebody with money, and somebody to pay."""
    return *(await shop.people.rich(1_000)), *(await shop.people.rich(1_000))


def asking(person: Payer, method: str) -> Callable[[Message], Awaitable[Message]]:
    async def ask(request: Message) -> Message:
        answer: Message = await person.ask(method, request)
        return answer

    return ask


async def wallet(shop: Till) -> Case:
    one = shop.people.new()

    async def since() -> None:
        [made] = await one.wallets()
        await fund(shop.owner, made.id, 500)
        said = internal.SetStandingRequest(user_id=one.id, kyc_tier=3, version=1)
        await shop.people.internal.SetStanding(said)

    requests = [pb.CreateWalletRequest(currency=currency) for currency in ("THB", "SGD")]
    return Case(*requests, asking(one, "CreateWallet"), since)


async def send(shop: Till) -> Case:
    one, purse, other, _ = await two(shop)

    def request(amount: int) -> pb.SendMoneyRequest:
        return pb.SendMoneyRequest(
            wallet_id=purse.id, recipient_id=other.id, amount=amount, currency="THB", description="rice"
        )

    async def since() -> None:
        [sent] = (await one.transactions(kind="send")).transactions
        await other.refund(sent.id, 3)
        await one.send(purse, other.id, 7)

    return Case(request(100), request(101), asking(one, "SendMoney"), since)


async def refund(shop: Till) -> Case:
    one, purse, other, _ = await two(shop)
    sent = await one.send(purse, other.id, 100)

    def request(amount: int) -> pb.CreateRefundRequest:
        return pb.CreateRefundRequest(transaction_id=sent.id, amount=amount)

    async def since() -> None:
        await other.refund(sent.id, 5)

    return Case(request(20), request(21), asking(other, "CreateRefund"), since)


async def hold(shop: Till) -> Case:
    one, purse, other, _ = await two(shop)

    def request(amount: int) -> pb.CreateHoldRequest:
        return pb.CreateHoldRequest(wallet_id=purse.id, recipient_id=other.id, amount=amount, currency="THB")

    async def since() -> None:
        [made] = (await one.ask("ListHolds", pb.ListHoldsRequest())).holds
        await other.capture(made.id, 40)
        await other.void(made.id)

    return Case(request(100), request(101), asking(one, "CreateHold"), since)


async def capture(shop: Till) -> Case:
    one, purse, other, _ = await two(shop)
    made = await one.hold(purse, other.id, 100)

    def request(amount: int) -> pb.CaptureHoldRequest:
        return pb.CaptureHoldRequest(hold_id=made.id, amount=amount)

    async def since() -> None:
        [paid] = (await other.transactions(kind="capture")).transactions
        await other.capture(made.id, 30)
        await other.refund(paid.id, 10)
        await one.capture(made.id, final=True)

    return Case(request(20), request(21), asking(other, "CaptureHold"), since)


async def void(shop: Till) -> Case:
    one, purse, other, _ = await two(shop)
    made, another = [await one.hold(purse, other.id, 100) for _ in range(2)]
    paid = await other.capture(made.id, 30)

    async def since() -> None:
        await other.refund(paid.transaction.id)
        await one.send(purse, other.id, 5)

    requests = [pb.VoidHoldRequest(hold_id=which.id) for which in (made, another)]
    return Case(*requests, asking(other, "VoidHold"), since)


async def top_up(shop: Till) -> Case:
    one = shop.people.new()
    purse = await one.wallet()

    def request(amount: int) -> CreateTopUpRequest:
        return CreateTopUpRequest(wallet_id=purse.id, amount=amount, currency="THB", method="promptpay")

    async def since() -> None:
        [asked] = (await one.ask("ListTopUps", ListTopUpsRequest())).top_ups
        assert (await shop.tell(shop.notice(asked))).outcome == "credited"

    return Case(request(100), request(101), asking(one, "CreateTopUp"), since)


async def bill(shop: Till) -> Case:
    one = shop.people.new()

    async def since() -> None:
        await one.ask("PayBills", bill_pb2.PayBillsRequest())

    requests = [bill_pb2.CreateBillRequest(amount=100, description=said) for said in ("rent", "rice")]
    return Case(*requests, asking(one, "CreateBill"), since)


async def pay(shop: Till) -> Case:
    one = shop.people.new()
    for amount in (100, 200):
        await one.ask("CreateBill", bill_pb2.CreateBillRequest(amount=amount, description="rent"))

    async def since() -> None:
        await one.ask("CreateBill", bill_pb2.CreateBillRequest(amount=300, description="rent"))
        await one.ask("PayBills", bill_pb2.PayBillsRequest())

    return Case(bill_pb2.PayBillsRequest(), bill_pb2.PayBillsRequest(), asking(one, "PayBills"), since)


async def transfers(shop: Till) -> Case:
    _, purse, _, to = await two(shop)

    def request(amount: int) -> internal.CreateTransfersRequest:
        moved = internal.Transfer(wallet_id=purse.id, to_wallet_id=to.id, amount=amount, currency="THB")
        return internal.CreateTransfersRequest(transfers=[moved])

    async def settle(request: Message) -> Message:
        answer: Message = await shop.people.settling.CreateTransfers(request)
        return answer

    async def since() -> None:
        await settle(request(9))

    return Case(request(100), request(101), settle, since)


CASES = {
    made.__name__: made for made in (wallet, send, refund, hold, capture, void, top_up, bill, pay, transfers)
}


@pytest.fixture(params=CASES)
async def case(request: pytest.FixtureRequest, shop: Till) -> Case:
    return await CASES[request.param](shop)


async def test_what_was_answered_is_answered_for_ever_to_the_byte(shop: Till, case: Case) -> None:
    request_id = str(uuid.uuid4())
    many = await asyncio.gather(*(case.answer(case.request, request_id) for _ in range(10)))
    assert len(set(many)) == 1
    await case.since()
    books = await shop.books()
    await shop.owner.execute(MONTH)
    assert await case.answer(case.request, request_id) == many[0]
    assert await shop.books() == books


@pytest.mark.parametrize("case", [one for one in CASES if one not in ("pay", "transfers")], indirect=True)
async def test_other_input_is_refused_also_a_month_later(shop: Till, case: Case) -> None:
    request_id = str(uuid.uuid4())
    await case.answer(case.request, request_id)
    await case.since()
    await shop.owner.execute(MONTH)
    books = await shop.books()
    assert await reason(case.answer(case.other, request_id)) == "REQUEST_ID_REUSED"
    assert await shop.books() == books


async def test_transfers_of_other_input_are_refused_one_by_one(shop: Till) -> None:
    case, request_id = await transfers(shop), str(uuid.uuid4())
    await case.answer(case.request, request_id)
    answer = internal.CreateTransfersResponse.FromString(await case.answer(case.other, request_id))
    assert [one.reason for one in answer.results] == ["REQUEST_ID_REUSED"]
