"""payment: whether the books are true."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Annotated

import typer

from services.stack.commands.console import FAILED, require_servers, this_home, told_errors

payment = typer.Typer(no_args_is_help=True, help="Look after wallets and the ledger.")


@payment.callback()
def _look_after() -> None:
    """Look after wallets and the ledger."""


@payment.command("reconcile")
def reconcile(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check the whole ledger, as it is at one moment, while payments go on.

    Balances are the sums of their postings, all sums to zero, no wallet is negative, holds and refunds fit.
    Exit code 0 only when all of it holds.

    \b
    Examples:
      sampan payment reconcile
      sampan payment reconcile --json
    """
    from services.payment import reconcile as work
    from services.stack.addresses import addresses_of

    with told_errors():
        home, environment = this_home()
        addresses = addresses_of(home, home.load_state(), environment)
        if addresses.managed("payment"):
            require_servers(addresses, ["postgres"])
        report = asyncio.run(work.reconcile(addresses.database("payment")))
        if as_json:
            typer.echo(json.dumps(dataclasses.asdict(report)))
        else:
            broken = {one.rule: one for one in report.broken}
            for rule in work.RULES:
                typer.echo(f"{'WRONG' if rule in broken else 'ok':<6} {rule}")
                if rule in broken:
                    typer.echo(f"       in {broken[rule].count} places, first {broken[rule].first}")
            typer.echo(
                f"{report.wallets} wallets, {report.transfers} transfers, {report.postings} postings: "
                f"{'clean' if not broken else 'NOT clean'}"
            )
        if report.broken:
            raise typer.Exit(FAILED)
