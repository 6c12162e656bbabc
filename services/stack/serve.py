"""Runs services in one process and on one event loop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence

import uvloop
from pydantic import ValidationError

from services.mesh import logs
from services.mesh.app import App
from services.mesh.auth import TokenVerifier
from services.mesh.chain import Chain
from services.mesh.clock import system_clock
from services.mesh.ratelimit import RateLimiter
from services.mesh.server import Server
from services.mesh.settings import MeshSettings
from services.mesh.tls import server_credentials
from services.stack.topology import SERVICES

READY_FD = "SAMPAN_READY_FD"
VERSION = "0.1.0"


async def _identity(mesh: MeshSettings) -> App:
    from services.identity.app import build

    return await build(mesh)


async def _web(mesh: MeshSettings) -> App:
    from services.web.app import build

    return await build(mesh, tuple(name for service in SERVICES.values() for name in service.public), VERSION)


# Composition roots by service; imported only by the process that runs them.
BUILDERS: dict[str, Callable[[MeshSettings], Awaitable[App]]] = {"identity": _identity, "web": _web}


def server_of(app: App, mesh: MeshSettings) -> Server:
    """The gRPC server of a built service, behind the whole chain."""
    log = logs.logger(app.name)
    settings = app.settings
    verifier = TokenVerifier(
        app.keys,
        issuer=mesh.token_issuer,
        audience=mesh.token_audience,
        leeway=mesh.token_leeway,
        clock=system_clock,
    )
    chain = Chain(
        verifier=verifier,
        limiter=RateLimiter(system_clock, scale=mesh.rate_limit_scale),
        log=log,
        max_request_bytes=settings.max_request_bytes,
        slow_seconds=mesh.log_slow_seconds,
        sample=mesh.log_sample,
    )
    return Server(
        name=app.name,
        listen=settings.listen,
        credentials=server_credentials(settings.tls_cert, settings.tls_key, settings.tls_ca),
        chain=chain,
        servicers=app.servicers,
        log=log,
        max_request_bytes=settings.max_request_bytes,
        foreign=app.foreign,
    )


async def serve(services: Sequence[str], mesh: MeshSettings) -> None:
    """Serves until SIGTERM, which drains, or SIGINT, which stops at once."""
    stop: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def ask_to_stop(notice: float) -> None:
        if not stop.done():
            stop.set_result(notice)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ask_to_stop, mesh.drain_notice_seconds)
    loop.add_signal_handler(signal.SIGINT, ask_to_stop, 0.0)
    apps = [await BUILDERS[name](mesh) for name in services]
    servers = [server_of(app, mesh) for app in apps]
    for server in servers:
        await server.start()
    _say_ready()
    notice = await stop
    grace = mesh.drain_grace_seconds if notice else 1.0
    await asyncio.gather(*(server.stop(notice=notice, grace=grace) for server in servers))
    for app in apps:
        for close in app.closers:
            await close()


def _say_ready() -> None:
    """Tells the supervisor, over the pipe that it gave."""
    found = os.environ.pop(READY_FD, "")
    if found:
        os.write(int(found), b"READY\n")
        os.close(int(found))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 2 for an unknown service or a setting that is wrong."""
    parser = argparse.ArgumentParser(prog="sampan serve", description=__doc__)
    parser.add_argument("--process", default="", help="name of the process in logs; default: its services")
    parser.add_argument("services", nargs="+", choices=sorted(BUILDERS), metavar="SERVICE")
    given = parser.parse_args(arguments)
    try:
        mesh = MeshSettings()
        logs.configure(given.process or "+".join(given.services), mesh.log_level)
        uvloop.run(serve(given.services, mesh))
    except ValidationError as error:
        # Never the value itself: it may be a secret.
        for wrong in error.errors(include_input=False, include_url=False):
            name = "_".join(str(part) for part in wrong["loc"]).upper()
            print(f"sampan serve: setting {error.title}.{name}: {wrong['msg']}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
