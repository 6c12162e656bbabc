"""health and logs: how the parts are, and what they say."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from services.stack.commands.console import UNHEALTHY, one_of, table, this_home, told_errors
from services.stack.errors import StackError
from services.stack.topology import PROCESSES, SERVERS, SERVICES

TIMEOUT = 2.0
EVERYTHING = (*SERVERS, *SERVICES, "envoy")


def health(
    service: Annotated[
        str, typer.Argument(help="One service or server; default: all.", callback=one_of(EVERYTHING))
    ] = "",
) -> None:
    """Ask every part how it is.

    Services by gRPC health over mTLS, servers by their own protocols, the edge by /healthz.

    Exit code 0 when all that was asked is healthy, 3 when something is not.

    \b
    Examples:
      sampan health
      sampan health identity
    """
    with told_errors():
        found = asyncio.run(ask([service] if service else list(EVERYTHING)))
        table(("PART", "ADDRESS", "HEALTH"), found)
        unwell = [row[0] for row in found if row[2] != "healthy"]
        if unwell:
            home, _ = this_home()
            see_log = f"Look at its log: ./scripts/sampan logs {unwell[0]}"
            typer.echo(see_log if home.held() else "Start it: ./scripts/up", err=True)
            raise typer.Exit(UNHEALTHY)


async def ask(names: list[str]) -> list[tuple[str, str, str]]:
    from services.mesh import liveness
    from services.stack.addresses import addresses_of
    from services.stack.pki import OPERATOR, Pki
    from services.stack.service_parts import chosen, peers

    home, environment = this_home()
    state = home.load_state()
    addresses = addresses_of(home, state, environment)
    operator = Pki(home / "pki").identity(OPERATOR)
    places = peers(state.ports, chosen(environment))
    rows: list[tuple[str, str, str]] = []
    for name in names:
        if name in SERVERS:
            host, port = addresses.socket(name)
            fine = await liveness.PROBES[name](host, port)
            rows.append((name, f"{host}:{port}", "healthy" if fine else "does not answer"))
        elif name == "envoy":
            rows.append(await edge_health(environment))
        else:
            rows.extend(
                [(name, place, await service_health(name, place, operator)) for place in places[name]]
            )
    return rows


async def edge_health(environment: dict[str, str]) -> tuple[str, str, str]:
    from services.stack import http
    from services.stack.envoy_part import HEALTH, Edge

    edge = Edge(environment)
    status, _ = await http.get(edge.reachable_host, edge.port, HEALTH, trusted=edge.certificate)
    return "envoy", edge.url, "healthy" if status == 200 else f"{HEALTH} answers {status or 'nothing'}"


async def service_health(name: str, place: str, operator: object) -> str:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from services.mesh.tls import channel_credentials, server_name
    from services.stack.pki import Identity

    if not isinstance(operator, Identity) or not operator.certificate.exists():
        raise StackError("home", "there is no operator's certificate", "Run ./scripts/up first.")
    credentials = channel_credentials(operator.certificate, operator.key, operator.ca)
    options = (("grpc.ssl_target_name_override", server_name(name)),)
    contract = (*SERVICES[name].public, *SERVICES[name].internal)[0]
    async with grpc.aio.secure_channel(place, credentials, options) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=contract), timeout=TIMEOUT
            )
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name.lower()}: {error.details()}"
    return "healthy" if answer.status == answer.SERVING else "not serving"


def log_names() -> tuple[str, ...]:
    return ("supervisor", *EVERYTHING, *(process.name for process in PROCESSES))


def logs(
    *,
    service: Annotated[
        str, typer.Argument(help="A service, a server, envoy or supervisor.", callback=one_of(log_names()))
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many lines back.", min=0)] = 100,
) -> None:
    """Show what a part has written. Services that share a process share its log.

    \b
    Examples:
      sampan logs identity --follow
      sampan logs supervisor -n 20
    """
    with told_errors():
        home, environment = this_home()
        files = [home.logs / f"{name}.log" for name in files_of(service, environment)]
        paths = [path for path in files if path.exists()]
        if not paths:
            raise StackError(service, f"has no log in {home.logs}", "Run ./scripts/up first.")
        show(paths, follow=follow, lines=lines)


def files_of(service: str, environment: Mapping[str, str]) -> list[str]:
    from services.stack.service_parts import chosen

    for process in chosen(environment):
        if service in (process.name, *process.services):
            return [*process.parts]
    return [service]


def show(paths: list[Path], *, follow: bool, lines: int) -> None:
    """Leaves it to tail, which follows a log through its turning over without polling."""
    options = ["-n", str(lines), *(["-F"] if follow else [])]
    os.execvp("tail", ["tail", "-q", *options, *map(str, paths)])  # noqa: S606 - no shell is wanted
