"""outbox: the messages that were delivered to nobody but this machine."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

from services.stack.commands.console import this_home, told_errors
from services.stack.errors import StackError

if TYPE_CHECKING:
    from sampan.notification.v1.notification_internal_service_pb2 import Delivery

TIMEOUT = 5.0


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
    """Asks notification, as the operator."""
    import grpc

    from sampan.notification.v1.notification_internal_service_pb2 import ListDeliveriesRequest
    from sampan.notification.v1.notification_internal_service_pb2_grpc import (
        NotificationInternalServiceStub,
    )
    from services.mesh.tls import channel_credentials, server_name
    from services.stack.pki import OPERATOR, Pki
    from services.stack.service_parts import peers

    home, _ = this_home()
    state = home.load_state()
    operator = Pki(home / "pki").identity(OPERATOR)
    if "notification" not in state.ports or not operator.certificate.exists():
        raise StackError("notification", f"has never been started in {home.root}", "Run ./scripts/up first.")
    place = peers(state.ports)["notification"][0]
    credentials = channel_credentials(operator.certificate, operator.key, operator.ca)
    options = (("grpc.ssl_target_name_override", server_name("notification")),)
    async with grpc.aio.secure_channel(place, credentials, options) as channel:
        stub = NotificationInternalServiceStub(channel)
        try:
            answer = await stub.ListDeliveries(ListDeliveriesRequest(to=to, limit=limit), timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            reason = f"does not answer at {place}: {error.code().name}"
            raise StackError("notification", reason, "Is it up? ./scripts/sampan status") from None
    return list(answer.deliveries)
