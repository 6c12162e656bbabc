"""Prepared requests for the RPCs of payment that change something."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sampan.payment.v1 import payment_internal_service_pb2 as internal
from sampan.payment.v1 import payment_service_pb2 as pb
from sampan.payment.v1 import service_hold_pb2 as service_holds
from sampan.payment.v1.top_up_pb2 import CreateTopUpRequest, ResolvePaymentRequest
from tests.support.money import fund
from tests.support.mutation import Mutation, World, sender

STANDINGS = "(SELECT count(*) FROM standings)"
RESOLUTIONS = "(SELECT count(*) FROM resolutions)"
REVIEWS = "(SELECT count(*) FROM transfers WHERE kind = 'review')"
TOP_UPS = "(SELECT count(*) FROM top_ups)"
WALLETS = "(SELECT count(*) FROM accounts WHERE kind = 'wallet')"
SENT = "(SELECT sum(amount) FROM transfers WHERE kind = 'send')"
REFUNDED = "(SELECT sum(amount) FROM transfers WHERE kind = 'refund')"
CAPTURED = "(SELECT sum(amount) FROM transfers WHERE kind = 'capture')"
HELD = "(SELECT sum(held) FROM accounts)"
TRANSFERS = "(SELECT count(*) FROM transfers WHERE kind = 'send')"


@dataclass(frozen=True)
class _Person:
    user_id: str
    token: str

    @property
    def metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.token}")]


async def create_wallet(world: World) -> Mutation:
    method, token, elsewhere = world.payment.CreateWallet, world.minter.token(), world.minter.token()
    request = pb.CreateWalletRequest(currency="THB")
    return Mutation(
        sender(method, request, token),
        world.payment_owner,
        {WALLETS: 1},
        sender(method, pb.CreateWalletRequest(currency="SGD"), token),
        sender(method, request, elsewhere),
    )


async def set_standing(world: World) -> Mutation:
    method, user_id = world.standing.SetStanding, str(uuid.uuid4())
    request = internal.SetStandingRequest(user_id=user_id, kyc_tier=2, version=7)
    other = internal.SetStandingRequest(user_id=user_id, kyc_tier=3, version=8)
    return Mutation(sender(method, request), world.payment_owner, {STANDINGS: 1}, sender(method, other))


async def send_money(world: World) -> Mutation:
    method = world.payment.SendMoney
    (me, mine), (you, yours) = [await _rich(world) for _ in range(2)]
    recipient, _ = await _rich(world)

    def request(wallet_id: str, amount: int) -> pb.SendMoneyRequest:
        return pb.SendMoneyRequest(
            wallet_id=wallet_id, recipient_id=recipient.user_id, amount=amount, currency="THB"
        )

    return Mutation(
        sender(method, request(mine, 5), me.token),
        world.payment_owner,
        {SENT: 5, TRANSFERS: 1},
        sender(method, request(mine, 6), me.token),
        sender(method, request(yours, 5), you.token),
    )


async def create_refund(world: World) -> Mutation:
    method = world.payment.CreateRefund
    me, you = [await _paid(world) for _ in range(2)]

    def request(transaction_id: str, amount: int) -> pb.CreateRefundRequest:
        return pb.CreateRefundRequest(transaction_id=transaction_id, amount=amount)

    return Mutation(
        sender(method, request(me[1], 2), me[0].token),
        world.payment_owner,
        {REFUNDED: 2},
        sender(method, request(me[1], 3), me[0].token),
        sender(method, request(you[1], 2), you[0].token),
    )


async def _paid(world: World) -> tuple[_Person, str]:
    """Somebody who was paid, and by which transaction."""
    (payer, wallet), (payee, _) = [await _rich(world) for _ in range(2)]
    request = pb.SendMoneyRequest(wallet_id=wallet, recipient_id=payee.user_id, amount=100, currency="THB")
    sent = await world.payment.SendMoney(request, metadata=payer.metadata)
    return payee, sent.id


async def create_hold(world: World) -> Mutation:
    method = world.payment.CreateHold
    (me, mine), (you, yours), (payee, _) = [await _rich(world) for _ in range(3)]

    def request(wallet: str, amount: int) -> pb.CreateHoldRequest:
        return pb.CreateHoldRequest(
            wallet_id=wallet, recipient_id=payee.user_id, amount=amount, currency="THB"
        )

    return Mutation(
        sender(method, request(mine, 5), me.token),
        world.payment_owner,
        {HELD: 5},
        sender(method, request(mine, 6), me.token),
        sender(method, request(yours, 5), you.token),
    )


async def capture_hold(world: World) -> Mutation:
    method = world.payment.CaptureHold
    me, you = [await _held(world) for _ in range(2)]

    def request(hold_id: str, amount: int) -> pb.CaptureHoldRequest:
        return pb.CaptureHoldRequest(hold_id=hold_id, amount=amount)

    return Mutation(
        sender(method, request(me[1], 5), me[0].token),
        world.payment_owner,
        {HELD: -5, CAPTURED: 5},
        sender(method, request(me[1], 6), me[0].token),
        sender(method, request(you[1], 5), you[0].token),
    )


async def void_hold(world: World) -> Mutation:
    method = world.payment.VoidHold
    me, you = [await _held(world) for _ in range(2)]
    return Mutation(
        sender(method, pb.VoidHoldRequest(hold_id=me[1]), me[0].token),
        world.payment_owner,
        {HELD: -100},
        sender(method, pb.VoidHoldRequest(hold_id=you[1]), me[0].token),
        sender(method, pb.VoidHoldRequest(hold_id=you[1]), you[0].token),
    )


async def place_hold(world: World) -> Mutation:
    method, hold_id = world.settling.PlaceHold, str(uuid.uuid4())
    (payer, _), (payee, _) = [await _rich(world) for _ in range(2)]

    def request(amount: int) -> service_holds.PlaceHoldRequest:
        return service_holds.PlaceHoldRequest(
            hold_id=hold_id,
            sender_id=payer.user_id,
            recipient_id=payee.user_id,
            amount=amount,
            currency="THB",
        )

    return Mutation(
        sender(method, request(100)), world.payment_owner, {HELD: 100}, sender(method, request(101))
    )


async def settle_hold(world: World) -> Mutation:
    method, hold_id = world.settling.SettleHold, await _placed(world)

    def request(amount: int) -> service_holds.SettleHoldRequest:
        return service_holds.SettleHoldRequest(hold_id=hold_id, amount=amount)

    effects = {HELD: -5, CAPTURED: 5}
    return Mutation(sender(method, request(5)), world.payment_owner, effects, sender(method, request(6)))


async def release_hold(world: World) -> Mutation:
    one, other = await _placed(world), await _placed(world)
    method, request = world.settling.ReleaseHold, service_holds.ReleaseHoldRequest
    return Mutation(
        sender(method, request(hold_id=one)),
        world.payment_owner,
        {HELD: -100},
        sender(method, request(hold_id=other)),
    )


async def _placed(world: World) -> str:
    """The id of a hold that a service has placed."""
    placing = await place_hold(world)
    placed = await placing.send("")
    assert isinstance(placed, service_holds.PlaceHoldResponse)
    return placed.hold.id


async def _held(world: World) -> tuple[_Person, str]:
    """Somebody for whom money is held, and the hold."""
    (payer, wallet), (payee, _) = [await _rich(world) for _ in range(2)]
    request = pb.CreateHoldRequest(wallet_id=wallet, recipient_id=payee.user_id, amount=100, currency="THB")
    made = await world.payment.CreateHold(request, metadata=payer.metadata)
    return payee, made.id


async def _rich(world: World) -> tuple[_Person, str]:
    """Somebody with money, and their wallet."""
    user_id = str(uuid.uuid4())
    person = _Person(user_id, world.minter.token(user_id))
    wallet = await world.payment.CreateWallet(
        pb.CreateWalletRequest(currency="THB"), metadata=person.metadata
    )
    await fund(world.payment_owner, wallet.id, 1_000)
    return person, wallet.id


async def create_top_up(world: World) -> Mutation:
    method, token, elsewhere = world.payment.CreateTopUp, world.minter.token(), world.minter.token()
    requests = []
    for whose in (token, elsewhere):
        wallet = await world.payment.CreateWallet(
            pb.CreateWalletRequest(currency="VND"), metadata=[("authorization", f"Bearer {whose}")]
        )
        requests.append(
            CreateTopUpRequest(wallet_id=wallet.id, amount=50_000, currency="VND", method="vietqr")
        )
    other = CreateTopUpRequest()
    other.CopyFrom(requests[0])
    other.amount += 1
    return Mutation(
        sender(method, requests[0], token),
        world.payment_owner,
        {TOP_UPS: 1},
        sender(method, other, token),
        sender(method, requests[1], elsewhere),
    )


async def resolve_payment(world: World) -> Mutation:
    method, payment_id = world.reviewing.ResolvePayment, str(uuid.uuid4())
    await world.payment_owner.execute(
        "INSERT INTO provider_payments (provider, payment_id, method, reference, amount, currency, paid_at, "
        "held_because, transfer_id) VALUES ('sandbox', $1, 'promptpay', 'STRAY', 5, 'THB', now(), "
        "'UNKNOWN_REFERENCE', gen_random_uuid())",
        payment_id,
    )
    request = ResolvePaymentRequest(provider="sandbox", payment_id=payment_id, decision="return")
    other = ResolvePaymentRequest(provider="sandbox", payment_id=payment_id, decision="credit")
    return Mutation(
        sender(method, request), world.payment_owner, {RESOLUTIONS: 1, REVIEWS: 1}, sender(method, other)
    )


PAYMENT: dict[str, Callable[[World], Awaitable[Mutation]]] = {
    "PaymentService/CreateWallet": create_wallet,
    "PaymentService/CreateTopUp": create_top_up,
    "PaymentService/SendMoney": send_money,
    "PaymentService/CreateRefund": create_refund,
    "PaymentService/CreateHold": create_hold,
    "PaymentService/CaptureHold": capture_hold,
    "PaymentService/VoidHold": void_hold,
    "PaymentInternalService/PlaceHold": place_hold,
    "PaymentInternalService/SettleHold": settle_hold,
    "PaymentInternalService/ReleaseHold": release_hold,
    "PaymentInternalService/ResolvePayment": resolve_payment,
    "PaymentInternalService/SetStanding": set_standing,
}
