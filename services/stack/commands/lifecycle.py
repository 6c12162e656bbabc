"""up, down, status, reset: the stack as a whole."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import Annotated

import typer

from services.stack.commands.console import (
    FAILED,
    INTERRUPTED,
    agreed,
    progress,
    table,
    this_home,
    told_errors,
)
from services.stack.errors import StackError
from services.stack.home import READY, STOPPED, STOPPING, Home, State

# Longer than all parts may take to stop, one stage after another.
PATIENCE = 60.0
POLL = 0.02


def up(
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all is healthy; it runs on in the background.")
    ] = False,
) -> None:
    """Start everything and keep it running.

    That is PostgreSQL, Redis, NATS, the services and the edge. Without --detach it runs in this terminal
    until Ctrl-C. The last line of a start is the address.

    \b
    Examples:
      sampan up --detach
      SAMPAN_EDGE_PORT=9090 SAMPAN_HOME=/tmp/two sampan up -d
    """
    from services.stack import launch

    with told_errors():
        home, environment = this_home()
        home.prepare()
        while (lock := home.claim()) is None:
            other = asyncio.run(launch.wait_until_settled(home))
            if other is not None and not other.edge:
                hint = "Stop them first; data stays: ./scripts/sampan infra down"
                raise StackError("supervisor", "only the servers are up here", hint)
            if other is not None:
                typer.echo(f"ready {other.edge}")
                note_other_address(environment, other.edge)
                return
        if detach:
            launch.in_background(home, environment, lock, progress)
        else:
            ready = launch.in_foreground(home, environment, progress)
            typer.echo("stopped")
            if not ready:
                raise typer.Exit(INTERRUPTED)


def note_other_address(environment: Mapping[str, str], address: str) -> None:
    """Says so when what runs is not where the caller wants it."""
    from services.stack.envoy_part import Edge

    wanted = Edge(environment).url
    if wanted != address:
        typer.echo(f"It was up already. To have it at {wanted}, stop it first: ./scripts/down", err=True)


def down() -> None:
    """Stop everything; data stays.

    Also ends what a supervisor killed by force has left behind. Stopping what is not up is no error.

    \b
    Examples:
      sampan down
    """
    with told_errors():
        home, _ = this_home()
        stopped = asyncio.run(bring_down(home))
        typer.echo("stopped" if stopped else "was not up")


async def bring_down(home: Home) -> bool:
    """Whether there was anything to stop."""
    from services.stack.supervisor import end_leftovers, is_same

    if not home.root.is_dir():
        return False
    deadline = asyncio.get_running_loop().time() + PATIENCE
    asked = False
    while home.held():
        supervisor = home.load_state().supervisor
        if supervisor and not asked and is_same(supervisor):
            os.kill(supervisor.pid, signal.SIGTERM)
            asked = True
        if asyncio.get_running_loop().time() > deadline:
            pid = supervisor.pid if supervisor else "unknown"
            hint = "See `sampan logs supervisor`."
            raise StackError("supervisor", f"pid {pid} does not stop within {PATIENCE:.0f} s", hint)
        await asyncio.sleep(POLL)
    state = home.load_state()
    left = await end_leftovers(state.parts)
    if state.phase != STOPPED:
        state.phase, state.supervisor, state.parts = STOPPED, None, {}
        home.save_state(state)
    return asked or bool(left)


def status() -> None:
    """Show which parts run and where.

    Exit code 0 when the stack is up, 1 when it is not.

    \b
    Examples:
      sampan status
    """
    with told_errors():
        home, _ = this_home()
        state = home.load_state()
        phase = state.phase if home.root.is_dir() and home.held() else STOPPED
        typer.echo(f"{phase} {state.edge if phase != STOPPED else ''}".rstrip())
        typer.echo(f"home {home.root}")
        if phase != STOPPED:
            table(("PART", "STATE", "PID", "UP", "LISTENS"), rows_of(state))
        else:
            typer.echo("Start it: ./scripts/up", err=True)
        if phase not in (READY, STOPPING):
            raise typer.Exit(FAILED)


def rows_of(state: State) -> list[tuple[str, str, str, str, str]]:
    import time

    from services.stack.service_parts import replica_key
    from services.stack.supervisor import is_same
    from services.stack.topology import PROCESSES

    services = {process.name: process.services for process in PROCESSES}
    rows = []
    for name, running in state.parts.items():
        alive = is_same(running) is not None
        process, _, number = name.rpartition("-")
        names = services.get(name) or services.get(process, (name,))
        keys = {each: replica_key(each, int(number) - 1 if process in services else 0) for each in names}
        ports = " ".join(f"{each}:{state.ports[key]}" for each, key in keys.items() if key in state.ports)
        age = f"{time.time() - running.started:.0f} s" if alive else ""
        listens = state.edge if name == "envoy" else ports
        rows.append((name, "running" if alive else "down", str(running.pid), age, listens))
    return rows


def reset(*, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Stop everything and erase its data.

    All of this home goes: databases, files, logs, secrets and certificates.

    \b
    Examples:
      sampan reset --yes
    """
    with told_errors():
        home, _ = this_home()
        if not home.root.is_dir():
            typer.echo(f"nothing to erase: {home.root} does not exist")
            return
        if not yes:
            agreed(f"Erase all data in {home.root}?")
        asyncio.run(bring_down(home))
        home.erase()
        typer.echo(f"erased {home.root}")
