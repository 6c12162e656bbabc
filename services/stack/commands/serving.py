"""serve: chosen services in this terminal, against the servers of a stack that is up or outside ones."""

from __future__ import annotations

from typing import Annotated

import typer

from services.stack.commands.console import one_of, replace_process, require_servers, this_home, told_errors
from services.stack.topology import SERVERS, SERVICES


def check_all(values: list[str]) -> list[str]:
    check = one_of(tuple(SERVICES))
    return [check(value) for value in values]


def serve(
    services: Annotated[list[str], typer.Argument(help="One or more services.", callback=check_all)],
) -> None:
    """Run services in this terminal.

    They share one process, until Ctrl-C, and use the databases, Redis and NATS of this home's stack, or
    outside ones named by SAMPAN_POSTGRES_URL, SAMPAN_REDIS_URL and SAMPAN_NATS_URL. A port that the
    stack's own copy holds is left to it.

    \b
    Examples:
      sampan serve identity
      sampan serve identity web
    """
    import os

    from services.stack import ports
    from services.stack.addresses import addresses_of
    from services.stack.paths import ROOT
    from services.stack.pki import Pki
    from services.stack.service_parts import ServiceParts, metrics_key, serve_command

    with told_errors():
        home, environment = this_home()
        home.prepare()
        state = home.load_state()
        addresses = addresses_of(home, state, environment)
        require_servers(addresses, SERVERS)
        pki = Pki(home / "pki")
        pki.ensure(services)
        own = {
            name: name if ports.is_free(state.ports.get(name, 0)) else f"serve/{name}" for name in services
        }
        metrics = metrics_key(f"serve/{'+'.join(services)}")
        found = ports.assign([*own.values(), metrics], state.ports, seed=f"{home.root} {os.getpid()}")
        listen = {name: f"{ports.LOOPBACK}:{found[key]}" for name, key in own.items()}
        for name, place in listen.items():
            typer.echo(f"{name} on {place}")
        told = f"{ports.LOOPBACK}:{found[metrics]}"
        typer.echo(f"metrics on http://{told}/metrics")
        variables = ServiceParts(home, pki, addresses, environment).environment_of(listen, told)
        replace_process(serve_command("+".join(services), tuple(services)), variables, ROOT)
