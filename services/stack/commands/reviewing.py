"""payment held and payment resolve: money that came, but not as it was asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from services.stack.commands.calling import TIMEOUT, as_operator
from services.stack.commands.console import one_of, table, told_errors

if TYPE_CHECKING:
    from sampan.payment.v1.top_up_pb2 import HeldPayment

HEAD = ("PROVIDER", "PAYMENT", "AMOUNT", "CURRENCY", "REASON", "PAID AT", "TOP-UP")


def held(
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many at most.", min=1, max=1000)] = 100,
) -> None:
    """Show money that is held for review, what waits longest first. Amounts are minor units.

    \b
    Examples:
      sampan payment held
    """
    with told_errors():
        found = asyncio.run(_held(limit))
        table(HEAD, [_row(one) for one in found])


def resolve(
    *,
    payment_id: Annotated[str, typer.Argument(help="The provider's id of the payment.")],
    decision: Annotated[str, typer.Argument(help="credit or return.", callback=one_of(("credit", "return")))],
    wallet: Annotated[str, typer.Option("--wallet", help="Credit this one, not the top-up's.")] = "",
    provider: Annotated[str, typer.Option("--provider", help="Whose payment it is.")] = "sandbox",
) -> None:
    """Decide about money that is held: into the wallet, or back to whom it came from.

    That the bank gives it back is between it and you: this only says so in the books.

    \b
    Examples:
      sampan payment resolve 01980f3a-5c1e-7000-8000-000000000000 credit
      sampan payment resolve 01980f3a-5c1e-7000-8000-000000000000 return
    """
    with told_errors():
        typer.echo(asyncio.run(_resolve(provider, payment_id, decision, wallet)))


async def _held(limit: int) -> list[HeldPayment]:
    from sampan.payment.v1.payment_internal_service_pb2_grpc import PaymentInternalServiceStub
    from sampan.payment.v1.top_up_pb2 import ListHeldPaymentsRequest

    async with as_operator("payment") as channel:
        request = ListHeldPaymentsRequest(limit=limit)
        answer = await PaymentInternalServiceStub(channel).ListHeldPayments(request, timeout=TIMEOUT)
        return list(answer.payments)


def _row(one: HeldPayment) -> tuple[str, ...]:
    paid_at = f"{one.paid_at.ToDatetime():%Y-%m-%dT%H:%M:%SZ}"
    return (one.provider, one.payment_id, str(one.amount), one.currency, one.reason, paid_at, one.top_up_id)


async def _resolve(provider: str, payment_id: str, decision: str, wallet: str) -> str:
    from sampan.payment.v1.payment_internal_service_pb2_grpc import PaymentInternalServiceStub
    from sampan.payment.v1.top_up_pb2 import ResolvePaymentRequest

    async with as_operator("payment") as channel:
        request = ResolvePaymentRequest(
            provider=provider, payment_id=payment_id, decision=decision, wallet_id=wallet
        )
        answer = await PaymentInternalServiceStub(channel).ResolvePayment(request, timeout=TIMEOUT)
        return str(answer.transaction_id)
