"""infra: PostgreSQL, Redis and NATS without services, for those who run these by hand."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from services.stack.commands.console import INTERRUPTED, progress, this_home, told_errors
from services.stack.commands.lifecycle import bring_down
from services.stack.commands.watching import show
from services.stack.errors import StackError
from services.stack.topology import SERVERS

infra = typer.Typer(no_args_is_help=True, help="Only the servers: PostgreSQL, Redis, NATS.")


@infra.command("up")
def infra_up(
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when they are up; they run on in the background.")
    ] = False,
) -> None:
    """Start the servers, make the databases and migrate them. Services then run by `sampan serve`.

    \b
    Examples:
      sampan infra up --detach
      sampan serve identity notification
    """
    from services.stack import launch

    with told_errors():
        home, environment = this_home()
        home.prepare()
        while (lock := home.claim()) is None:
            if asyncio.run(launch.wait_until_settled(home)) is not None:
                typer.echo("up already; see sampan status")
                return
        if detach:
            launch.in_background(home, environment, lock, progress, servers_only=True)
        elif not launch.in_foreground(home, environment, progress, servers_only=True):
            raise typer.Exit(INTERRUPTED)


@infra.command("down")
def infra_down() -> None:
    """Stop the servers; data stays. A whole stack is left alone: that is `sampan down`.

    \b
    Examples:
      sampan infra down
    """
    with told_errors():
        home, _ = this_home()
        if home.root.is_dir() and home.held() and home.load_state().edge:
            raise StackError("supervisor", "the whole stack is up here", "Stop all of it: ./scripts/down")
        typer.echo("stopped" if asyncio.run(bring_down(home)) else "were not up")


@infra.command("logs")
def infra_logs(
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many lines back of each.", min=0)] = 50,
) -> None:
    """Show what the servers have written.

    \b
    Examples:
      sampan infra logs --follow
    """
    with told_errors():
        home, _ = this_home()
        paths = [path for name in SERVERS if (path := home.logs / f"{name}.log").exists()]
        if not paths:
            raise StackError("infra", f"has no log in {home.logs}", "Run ./scripts/sampan infra up first.")
        show(paths, follow=follow, lines=lines)
