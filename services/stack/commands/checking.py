"""doctor: what is wrong with this machine or this home, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from services.stack.commands.console import FAILED, this_home, told_errors


def doctor(
    *,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only what is not fine.")] = False,
) -> None:
    """Look for what usually keeps a stack from starting.

    That is port, disk, memory, rights, clock, old state, programs, limits, namespaces, outside servers.

    Exit code 0 when it should start (there may be warnings), 1 when something must be done first.

    \b
    Examples:
      sampan doctor
      SAMPAN_EDGE_PORT=80 sampan doctor --quiet
    """
    from services.stack import doctor as work

    with told_errors():
        home, environment = this_home()
        found = work.examine(work.Patient(home, environment))
        for one in found:
            if one.state == work.FINE and quiet:
                continue
            typer.echo(f"{one.state:<8} {one.about:<9} {one.words}")
            if one.advice and one.state != work.FINE:
                typer.echo(f"         {'':<9} -> {one.advice}")
        if any(one.state == work.TROUBLE for one in found):
            raise typer.Exit(FAILED)
