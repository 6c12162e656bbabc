"""Prepared requests for the RPCs of bills that change something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sampan.payment.v1 import bill_pb2 as pb
from tests.support.mutation import Mutation, World, sender

BILLS_MADE = "(SELECT count(*) FROM bills)"
TOLD = "(SELECT count(*) FROM outbox WHERE subject LIKE 'sampan.payment.transaction.%')"
COUNTED = "(SELECT sum(transactions) FROM bill_accounts)"
PAID = "(SELECT count(*) FROM bills WHERE paid_at IS NOT NULL)"


async def create_bill(world: World) -> Mutation:
    method, token, elsewhere = world.payment.CreateBill, world.minter.token(), world.minter.token()
    request = pb.CreateBillRequest(amount=50_000, description="rent")
    return Mutation(
        sender(method, request, token),
        world.payment_owner,
        {BILLS_MADE: 1, COUNTED: 1, TOLD: 1},
        sender(method, pb.CreateBillRequest(amount=40_000, description="rent"), token),
        sender(method, request, elsewhere),
    )


async def pay_bills(world: World) -> Mutation:
    method, token = world.payment.PayBills, world.minter.token()
    for amount in (100, 200):
        await sender(world.payment.CreateBill, pb.CreateBillRequest(amount=amount), token)("")
    return Mutation(
        sender(method, pb.PayBillsRequest(), token),
        world.payment_owner,
        {PAID: 2, TOLD: 1},
        elsewhere=sender(method, pb.PayBillsRequest(), world.minter.token()),
    )


BILLS: dict[str, Callable[[World], Awaitable[Mutation]]] = {
    "PaymentService/CreateBill": create_bill,
    "PaymentService/PayBills": pay_bills,
}
