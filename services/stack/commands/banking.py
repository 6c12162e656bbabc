"""bank: the sandbox bank, in which customers pay QRs."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from services.stack.commands.console import secrets_of, this_home, told_errors
from services.stack.errors import StackError

if TYPE_CHECKING:
    from services.stack.bank import How, Receipt

bank = typer.Typer(no_args_is_help=True, help="Play a bank and its customers, in development.")
TIMEOUT = 10.0


@bank.callback()
def _bank() -> None:
    """A group, however few commands it has."""


@bank.command()
def pay(
    *,
    qr: Annotated[str, typer.Argument(help="The payload of the QR, or - to read it from stdin.")],
    amount: Annotated[
        int | None, typer.Option("--amount", help="Pay this instead, in minor units.", min=1)
    ] = None,
    delay: Annotated[
        float, typer.Option("--delay", help="Say that it is done only after so many seconds.", min=0)
    ] = 0.0,
    repeat: Annotated[
        int, typer.Option("--repeat", help="Say everything so many times more.", min=0, max=100)
    ] = 0,
    reorder: Annotated[
        bool, typer.Option("--reorder", help="Say that it is done before that it has started.")
    ] = False,
    time_out: Annotated[bool, typer.Option("--time-out", help="Never say that it is done.")] = False,
    decline: Annotated[bool, typer.Option("--decline", help="Start, then think better of it.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Pay a QR that was paid before.")] = False,
    patience: Annotated[
        float, typer.Option("--patience", help="Try to deliver a callback for so many seconds.", min=0)
    ] = 30.0,
) -> None:
    """Pay a QR as a customer would; the bank tells payment over HTTP. Prints one JSON object.

    Exit code 0 when the bank took the money, whatever became of its callbacks; else 1.

    \b
    Examples:
      sampan bank pay "$QR"
      sampan bank pay "$QR" --repeat 3 --reorder
      sampan bank pay "$QR" --amount 9900
      sampan bank pay "$QR" --time-out
    """
    from services.stack.bank import How

    with told_errors():
        text = sys.stdin.read().strip() if qr == "-" else qr
        how = How(amount, delay, repeat, reorder, time_out, decline, again, patience)
        typer.echo(json.dumps(asyncio.run(paid(text, how)).shown()))


async def paid(text: str, how: How) -> Receipt:
    import httpx

    from services.payment.providers.journal import Journal
    from services.payment.providers.signing import Signer
    from services.payment.qr.tlv import QrInvalid
    from services.stack.bank import Bank, Refused
    from services.stack.envoy_part import Edge
    from services.stack.home import BANK
    from services.stack.secrets import SANDBOX

    home, environment = this_home()
    edge = Edge(environment)
    secret = secrets_of(home).provider_keys[SANDBOX]
    trusted = ssl.create_default_context(cafile=str(edge.certificate)) if edge.certificate else True
    async with httpx.AsyncClient(base_url=edge.url, timeout=TIMEOUT, verify=trusted) as client:
        try:
            return await Bank(Signer(bytes.fromhex(secret)), Journal(home / BANK), client).pay(text, how)
        except QrInvalid as error:
            raise StackError("bank", f"cannot read this QR: {error}") from None
        except Refused as error:
            raise StackError("bank", str(error)) from None
