"""outbox: the messages that were delivered to nobody but this machine."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

from services.stack.commands.calling import TIMEOUT, as_operator
from services.stack.commands.console import told_errors
from services.stack.errors import StackError

if TYPE_CHECKING:
    from sampan.notification.v1.notification_internal_service_pb2 import Delivery


def outbox(
    *,
    to: Annotated[str, typer.Option("--to", help="A phone number in E.164, or an e-mail address.")],
    last: Annotated[bool, typer.Option("--last", help="Only the newest.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many at most.", min=1, max=100)] = 10,
) -> None:
    """Show messages in the development outbox, newest first: one JSON object a line.

    Each has `to`, `channel`, `body` and, when there is one in it, `code`. Exit code 1 when there is none.

    \b
    Examples:
      sampan outbox --to +66812345678 --last
      sampan outbox --to somchai@example.com -n 3
    """
    with told_errors():
        found = [shown(one) for one in asyncio.run(ask(to, limit)) if one.body]
        if not found:
            hint = (
                "Is the address right, in E.164 if it is a phone number? A provider's messages are not kept."
            )
            raise StackError("outbox", f"holds nothing for {to}", hint)
        for message in found[:1] if last else found:
            typer.echo(json.dumps(message, ensure_ascii=False))


def shown(one: Delivery) -> dict[str, str]:
    message = {"to": one.to, "channel": one.channel, "body": one.body}
    return {**message, "code": one.code} if one.code else message


async def ask(to: str, limit: int) -> list[Delivery]:
    from sampan.notification.v1.notification_internal_service_pb2 import ListDeliveriesRequest
    from sampan.notification.v1.notification_internal_service_pb2_grpc import (
        NotificationInternalServiceStub,
    )

    async with as_operator("notification") as channel:
        request = ListDeliveriesRequest(to=to, limit=limit)
        answer = await NotificationInternalServiceStub(channel).ListDeliveries(request, timeout=TIMEOUT)
        return list(answer.deliveries)
