"""analytics: what an operator does about figures."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from services.stack.commands.console import told_errors
from services.stack.commands.events import opened, owner_url
from services.stack.errors import StackError

_SERVICE = "analytics"
# How often to look whether it is done, in seconds.
_LOOK = 0.2

analytics = typer.Typer(no_args_is_help=True, help="Look after figures.")


@analytics.callback()
def _analytics() -> None:
    """A group, however few commands it has."""


@analytics.command()
def rebuild(
    *,
    seconds: Annotated[
        float, typer.Option("--within", help="How long to wait for it, in seconds.", min=0)
    ] = 300.0,
) -> None:
    """Make all figures anew, from what payment knows. Events go on being counted meanwhile.

    The service does it; if it is away it does it later. Exit code 1 when it was not done in time.

    \b
    Examples:
      sampan analytics rebuild
    """
    with told_errors():
        if not asyncio.run(rebuilt(owner_url(_SERVICE), seconds)):
            hint = "It is done when analytics and payment are there: ./scripts/sampan health"
            raise StackError(_SERVICE, f"has not done it within {seconds:g} s", hint)
        typer.echo("all figures are made anew")


async def rebuilt(url: str, seconds: float) -> bool:
    """Asks for it, and waits; whether it was done in time."""
    from services.analytics import repository

    async with opened(url) as database:
        async with database.transaction() as connection:
            wanted_at = await repository.ask(connection)
        ends = asyncio.get_running_loop().time() + seconds
        while True:
            async with database.reading() as connection:
                if await repository.is_done(connection, wanted_at):
                    return True
            if asyncio.get_running_loop().time() >= ends:
                return False
            await asyncio.sleep(_LOOK)
