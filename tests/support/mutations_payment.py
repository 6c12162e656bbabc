"""Prepared requests for the RPCs of payment that change something."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from sampan.payment.v1 import payment_internal_service_pb2 as internal
from sampan.payment.v1 import payment_service_pb2 as pb
from tests.support.mutation import Mutation, World, sender

STANDINGS = "(SELECT count(*) FROM standings)"
WALLETS = "(SELECT count(*) FROM accounts WHERE kind = 'wallet')"


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


PAYMENT: dict[str, Callable[[World], Awaitable[Mutation]]] = {
    "PaymentService/CreateWallet": create_wallet,
    "PaymentInternalService/SetStanding": set_standing,
}
