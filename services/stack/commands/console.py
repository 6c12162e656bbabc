"""How commands speak: progress lines, tables, and errors that end with what to do next."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from services.stack.environment import environment
from services.stack.errors import StackError
from services.stack.home import Home

if TYPE_CHECKING:
    from services.stack.addresses import Addresses
    from services.stack.secrets import Secrets

# Exit codes besides 0; 2 is the shell's for a wrong use of the command.
FAILED = 1
UNHEALTHY = 3
INTERRUPTED = 130


@contextmanager
def told_errors() -> Iterator[None]:
    """Turns what stops the stack into lines on stderr and an exit code."""
    try:
        yield
    except StackError as error:
        typer.echo(f"sampan: {error.part}: {error.reason}", err=True)
        if error.hint:
            typer.echo(f"  {error.hint}", err=True)
        raise typer.Exit(FAILED) from None
    except OSError as error:
        typer.echo(f"sampan: {error.strerror}: {error.filename or ''}", err=True)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def this_home() -> tuple[Home, dict[str, str]]:
    """The home and the environment that the caller means."""
    given = environment()
    return Home.from_environment(given), given


def secrets_of(home: Home) -> Secrets:
    """The secrets of a home that has been up. Raises StackError when there is none."""
    from services.stack.secrets import load_or_make
    from services.stack.topology import SERVICES

    if not home.root.is_dir():
        raise StackError("home", f"there is nothing in {home.root}", "Run ./scripts/up first.")
    return load_or_make(home, SERVICES)


def progress(message: Mapping[str, object]) -> None:
    """One line for each step of a start."""
    if "part" in message:
        line = f"  {message['part']:<12} {message['milliseconds']:>6} ms  {message['detail']}"
        typer.echo(line.rstrip())
    elif "ready" in message:
        typer.echo(f"  {'all healthy':<12} {message['milliseconds']:>6} ms")
        typer.echo(f"ready {message['ready']}")


def agreed(question: str) -> None:
    """Goes on when a person says yes."""
    try:
        typer.confirm(question, abort=True)
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        raise StackError(
            "input", "nobody said yes, so nothing was changed", "Without a terminal: --yes"
        ) from None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """A check for arguments that name one of a few things."""

    def check(value: str) -> str:
        if value and value not in names:
            raise typer.BadParameter(f"{value!r} is not one of: {', '.join(names)}")
        return value

    return check


def require_servers(addresses: Addresses, names: Sequence[str]) -> None:
    """Fails with advice when a server that a command needs does not answer."""
    from services.mesh import liveness

    for name in names:
        host, port = addresses.socket(name)
        if not asyncio.run(liveness.PROBES[name](host, port)):
            raise StackError(name, f"does not answer at {host}:{port}", "Run ./scripts/up first.")


def replace_process(command: Sequence[str], variables: Mapping[str, str], folder: Path) -> None:
    """Becomes another program, so that signals, terminal and exit code are its own."""
    os.chdir(folder)
    os.execve(command[0], list(command), dict(variables))  # noqa: S606 - no shell is wanted
