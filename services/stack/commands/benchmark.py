"""bench: what this machine does, each figure beside its limit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.stack.commands.console import one_of, table, this_home, told_errors
from services.stack.errors import StackError

SUITE_NAMES = ("edge", "messaging", "payment")


def bench(
    suite: Annotated[
        str, typer.Argument(help="Which suite; default: all.", callback=one_of(SUITE_NAMES))
    ] = "",
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer and shorter rounds: within 4 minutes.")
    ] = False,
    only: Annotated[
        str, typer.Option("--only", help="Only figures with this in their name, each with its limit.")
    ] = "",
    long: Annotated[
        bool,
        typer.Option("--long", help="As --quick, and what takes minutes: among millions of rows."),
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures there.")] = None,
    chart_file: Annotated[Path | None, typer.Option("--chart", help="Write a chart there, as SVG.")] = None,
) -> None:
    """Measure this machine.

    Each figure is printed beside its limit from the same run: the ratio counts, since absolute numbers are
    the machine's. Measures the stack of this home when it is up, and else a private one that goes afterwards.

    \b
    Examples:
      sampan bench edge --quick
      sampan bench messaging --quick
      sampan bench payment --quick
      sampan bench messaging --only idle_10000
      sampan bench payment --long
      sampan bench --json figures.json --chart figures.svg
    """
    from dataclasses import replace

    from services.stack.bench import report
    from services.stack.bench.measuring import FULL, LONG, QUICK
    from services.stack.bench.rig import rig
    from services.stack.bench.suites import SUITES

    with told_errors():
        home, environment = this_home()
        effort = replace(LONG if long else QUICK if quick else FULL, only=only)
        with rig(home, environment, lambda line: typer.echo(f"bench: {line}", err=True)) as found:
            figures = [
                figure
                for name in ([suite] if suite else SUITES)
                for figure in SUITES[name](found, effort, lambda line: typer.echo(f"bench: {line}", err=True))
            ]
        if not figures:
            raise StackError(
                "bench", f"no figure has {only!r} in its name", "Run it without --only to see all."
            )
        table(report.HEAD, report.rows(figures))
        typer.echo()
        table(("FIGURE", "PROCESS", "PSS MIB", "IDLE CPU S"), report.process_rows(figures))
        if json_file is not None:
            report.write_json(figures, json_file)
        if chart_file is not None:
            chart_file.write_text(report.chart(figures))
