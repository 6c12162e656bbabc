"""metrics and top: where figures are told, and what they say just now."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.stack.commands.console import table, this_home, told_errors
from services.stack.errors import StackError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from services.stack.home import Home

SHORTEST = 0.5
# Rows where no screen ends.
ALL = 10_000


def metrics(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="As scrape_configs of a prometheus.yml.")
    ] = False,
) -> None:
    """Show where a Prometheus finds the figures of this stack.

    Every process of services and the edge have an address on loopback. Services answer with exemplars
    to who asks for OpenMetrics.

    \b
    Examples:
      sampan metrics
      sampan metrics --json
      sampan metrics --prometheus > prometheus.yml
    """
    import yaml

    from services.stack.endpoints import endpoints, scrape_config

    with told_errors():
        home, environment = this_home()
        found = endpoints(home.load_state(), environment)
        if prometheus:
            typer.echo(yaml.safe_dump(scrape_config(found), sort_keys=False), nl=False)
        elif as_json:
            typer.echo(json.dumps([{"part": one.part, "url": one.url} for one in found]))
        else:
            table(("PART", "METRICS"), [(one.part, one.url) for one in found])


def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Show one interval and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each interval.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", "-n", help="Seconds between two looks.", min=SHORTEST)
    ] = 2.0,
) -> None:
    """Show what the stack does: calls by method, latencies, processes, restarts.

    Live until Ctrl-C; into a pipe it shows one interval. Rates are per second; latencies are of this
    interval, read from histograms.

    \b
    Examples:
      sampan top
      sampan top --interval 5
      sampan top --once --json
    """
    with told_errors():
        home, environment = this_home()
        if not (home.root.is_dir() and home.held()):
            raise StackError("top", f"nothing is up in {home.root}", "Run ./scripts/up first.")
        live = not once and (as_json or sys.stdout.isatty())
        asyncio.run(_watch(home, environment, interval, live=live, as_json=as_json))


async def _watch(
    home: Home, environment: dict[str, str], interval: float, *, live: bool, as_json: bool
) -> None:
    from rich.console import Console
    from rich.live import Live

    from services.stack.endpoints import endpoints
    from services.stack.top import Watch

    console = Console()
    watch = Watch(home, endpoints(home.load_state(), environment))
    await watch.begin()
    drawing = Live(console=console, screen=True, auto_refresh=False) if live and not as_json else None
    with drawing or nullcontext():
        while True:
            await asyncio.sleep(interval)
            said = await watch.next()
            if as_json:
                typer.echo(json.dumps(said))
            elif drawing is not None:
                drawing.update(_drawn(said, console.height), refresh=True)
            else:
                console.print(_drawn(said, ALL))
            if not live:
                return


def _drawn(said: dict[str, Any], height: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    edge = said["edge"]
    classes = "  ".join(f"{name} {rate:g}/s" for name, rate in edge["by_class"].items() if rate)
    head = f"edge {edge['rate']:g}/s  {classes}  p50 {_ms(edge['p50_ms'])}  p99 {_ms(edge['p99_ms'])} ms"
    room = max(3, height - len(said["parts"]) - 9)
    return Group(Text(head, style="bold"), _methods(said["methods"][:room]), _parts(said["parts"]))


def _methods(rows: list[dict[str, Any]]) -> Table:
    names = ("RATE", "ERRORS", "P50 MS", "P95 MS", "P99 MS", "NOW")
    drawn = _table(("METHOD",), names)
    for row in rows:
        latencies = (_ms(row[name]) for name in ("p50_ms", "p95_ms", "p99_ms"))
        name = row["method"].removeprefix("sampan.")
        drawn.add_row(
            name, f"{row['rate']:g}", f"{row['error_share']:.1%}", *latencies, str(row["in_flight"])
        )
    return drawn


def _parts(rows: list[dict[str, Any]]) -> Table:
    drawn = _table(("PART",), ("PID", "CPU %", "PSS MIB", "RESTARTS", "UP S"))
    for row in rows:
        figures = (row[name] for name in ("pid", "cpu_percent", "pss_mib", "restarts", "uptime_s"))
        drawn.add_row(row["part"], *map(str, figures))
    return drawn


def _table(left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    from rich.table import Table

    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in left:
        made.add_column(name, no_wrap=True)
    for name in right:
        made.add_column(name, justify="right", no_wrap=True, min_width=max(len(name), 7))
    return made


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
