"""Prepared requests for the RPCs of payment that change something."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sampan.payment.v1 import payment_internal_service_pb2 as internal
from sampan.payment.v1 import payment_service_pb2 as pb
from tests.support.money import fund
from tests.support.mutation import Mutation, World, sender

STANDINGS = "(SELECT count(*) FROM standings)"
WALLETS = "(SELECT count(*) FROM accounts WHERE kind = 'wallet')"
SENT = "(SELECT sum(amount) FROM transfers WHERE kind = 'send')"
TRANSFERS = "(SELECT count(*) FROM transfers WHERE kind = 'send')"


@dataclass(frozen=True)
class _Person:
    user_id: str
    token: str


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


async def _rich(world: World) -> tuple[_Person, str]:
    """Somebody with money, and their wallet."""
    user_id = str(uuid.uuid4())
    person = _Person(user_id, world.minter.token(user_id))
    wallet = await world.payment.CreateWallet(
        pb.CreateWalletRequest(currency="THB"), metadata=[("authorization", f"Bearer {person.token}")]
    )
    await fund(world.payment_owner, wallet.id, 1_000)
    return person, wallet.id


PAYMENT: dict[str, Callable[[World], Awaitable[Mutation]]] = {
    "PaymentService/CreateWallet": create_wallet,
    "PaymentService/SendMoney": send_money,
    "PaymentInternalService/SetStanding": set_standing,
}
