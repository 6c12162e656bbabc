"""Runs services in one process and on one event loop."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

import uvloop
from pydantic import ValidationError

from services.mesh import faults, logs, trace
from services.mesh.app import App
from services.mesh.auth import TokenVerifier
from services.mesh.chain import Chain
from services.mesh.clock import system_clock
from services.mesh.exposition import Listener, Process, Service
from services.mesh.metrics import Gauge, LoopLag
from services.mesh.ratelimit import RateLimiter
from services.mesh.ratelimit_shared import SharedRateLimiter
from services.mesh.revocation import Revocations, nothing_revoked
from services.mesh.server import Server
from services.mesh.settings import MeshSettings
from services.mesh.tls import Certificate, server_credentials
from services.stack.topology import SERVICES

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from services.mesh.spans import Spans

READY_FD = "SAMPAN_READY_FD"
VERSION = "0.1.0"


async def _identity(mesh: MeshSettings) -> App:
    from services.identity.app import build

    return await build(mesh)


async def _notification(mesh: MeshSettings) -> App:
    from services.notification.app import build

    return await build(mesh)


async def _profile(mesh: MeshSettings) -> App:
    from services.profile.app import build

    return await build(mesh)


async def _workspace(mesh: MeshSettings) -> App:
    from services.workspace.app import build

    return await build(mesh)


async def _messaging(mesh: MeshSettings) -> App:
    from services.messaging.app import build

    return await build(mesh)


async def _presence(mesh: MeshSettings) -> App:
    from services.presence.app import build

    return await build(mesh)


async def _payment(mesh: MeshSettings) -> App:
    from services.payment.app import build

    return await build(mesh)


async def _analytics(mesh: MeshSettings) -> App:
    from services.analytics.app import build

    return await build(mesh)


async def _web(mesh: MeshSettings) -> App:
    from services.web.app import build

    return await build(mesh, tuple(name for service in SERVICES.values() for name in service.public), VERSION)


# Composition roots by service; imported only by the process that runs them.
BUILDERS: dict[str, Callable[[MeshSettings], Awaitable[App]]] = {
    "analytics": _analytics,
    "identity": _identity,
    "notification": _notification,
    "profile": _profile,
    "messaging": _messaging,
    "payment": _payment,
    "presence": _presence,
    "web": _web,
    "workspace": _workspace,
}


class Running:
    """A built service behind the whole chain: its server, its revocations, its background work.

    `known` is a list of revocations that somebody else in this process keeps fresh, as long as this runs.
    """

    def __init__(
        self, app: App, mesh: MeshSettings, tracer: Tracer | None = None, known: Revocations | None = None
    ) -> None:
        self._app = app
        self._tracer = tracer
        log = logs.logger(app.name)
        self._log = log
        settings = app.settings
        self.revocations = known or Revocations(app.revocations, system_clock, log)
        self._follows = known is None
        verifier = TokenVerifier(
            app.keys,
            issuer=mesh.token_issuer,
            audience=mesh.token_audience,
            leeway=mesh.token_leeway,
            clock=system_clock,
            revoked=self.revocations.is_revoked,
        )
        local = RateLimiter(time.monotonic, scale=mesh.rate_limit_scale)
        self._shared = (
            SharedRateLimiter(
                settings.redis_url.get_secret_value(),
                app.name,
                local,
                time.monotonic,
                log,
                scale=mesh.rate_limit_scale,
                timeout=mesh.rate_limit_timeout,
            )
            if settings.redis_url is not None
            else None
        )
        chain = Chain(
            verifier=verifier,
            limiter=self._shared or local,
            log=log,
            max_request_bytes=settings.max_request_bytes,
            slow_seconds=mesh.log_slow_seconds,
            sample=mesh.log_sample,
            tracer=tracer,
            doubt=partial(self.revocations.require_heard, mesh.revocations_silent_seconds),
            wary=app.wary,
        )
        self.server = Server(
            name=app.name,
            listen=settings.listen,
            credentials=server_credentials(Certificate(settings.tls_cert, settings.tls_key, settings.tls_ca)),
            chain=chain,
            servicers=app.servicers,
            log=log,
            max_request_bytes=settings.max_request_bytes,
            foreign=app.foreign,
        )
        self.counted = Service(
            app.name, chain.calls, lambda: self.server.address, (self._observe, *app.observed)
        )
        app.attach(chain, self.revocations)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Serves as soon as it knows which sessions have ended."""
        if self._follows:
            await self.revocations.load()
        if self._shared is not None:
            await self._shared.start()
        await self.server.start()
        context = copy_context()
        context.run(trace.tracer.set, self._tracer)
        loop = asyncio.get_running_loop()
        follow = (self.revocations.follow,) if self._follows else ()
        for work in (*follow, *self._app.background):
            task: asyncio.Task[None] = loop.create_task(_run(work), context=context.copy())
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    async def stop(self, *, notice: float, grace: float) -> None:
        """Drains the server, ends background work, closes what the service opened."""
        await self.server.stop(notice=notice, grace=grace, drain=self._app.drain)
        await _end(self._tasks)
        if self._shared is not None:
            await self._shared.close()
        for close in self._app.closers:
            await close()

    async def _observe(self) -> list[Gauge]:
        alone = self._shared is None or self._shared.away
        silent = self.revocations.silent_seconds
        return [
            Gauge("sampan_ratelimit_alone", "Whether limits are counted here alone, without Redis.", alone),
            Gauge("sampan_revocations_silent_seconds", "Since the list of ended sessions was whole.", silent),
        ]

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Background work that ends untold ends the process, which is started anew."""
        if not task.cancelled():
            self._log.error("background.ended", exc_info=task.exception())
            os.kill(os.getpid(), signal.SIGTERM)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels tasks until they have ended: one that is just connecting may swallow it, as nats-py does."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.2)


async def serve(services: Sequence[str], mesh: MeshSettings) -> None:
    """Serves until SIGTERM, which drains, or SIGINT, which stops at once."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[float] = loop.create_future()

    def ask_to_stop(notice: float) -> None:
        if not stop.done():
            stop.set_result(notice)

    loop.add_signal_handler(signal.SIGTERM, ask_to_stop, mesh.drain_notice_seconds)
    loop.add_signal_handler(signal.SIGINT, ask_to_stop, 0.0)
    spans = _spans(mesh)
    starting = loop.create_task(_start(services, mesh, spans))
    await asyncio.wait((starting, stop), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        # Told to stop while waiting for a part that is away.
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    running = starting.result()
    async with _measured(running, mesh, spans):
        calm_collector()
        _say_ready()
        notice = await stop
        grace = mesh.drain_grace_seconds if notice else 1.0
        await asyncio.gather(*(one.stop(notice=notice, grace=grace) for one in running))
    if spans is not None:
        await asyncio.to_thread(spans.shutdown)


async def _run(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _spans(mesh: MeshSettings) -> Spans | None:
    """Where spans go; the library that makes them is loaded only where they go anywhere."""
    if not mesh.otlp_endpoint:
        return None
    from services.mesh.spans import Spans

    return Spans.to(mesh.otlp_endpoint, logs.logger("spans"))


@asynccontextmanager
async def _measured(
    running: Sequence[Running], mesh: MeshSettings, spans: Spans | None
) -> AsyncIterator[None]:
    """Tells the figures of the process within the block, if anybody wants to know."""
    if not mesh.metrics_listen:
        yield
        return

    def fates() -> tuple[int, int]:
        return (spans.exported, spans.dropped) if spans else (0, 0)

    lag = LoopLag()
    listener = Listener(mesh.metrics_listen, Process([one.counted for one in running], lag, fates).scrape)
    try:
        await listener.start()
    except OSError as error:
        # Nobody goes without service because nobody can count it.
        logs.logger("metrics").error("metrics.not_told", address=mesh.metrics_listen, error=error.strerror)
    watching = asyncio.create_task(lag.run())
    try:
        yield
    finally:
        watching.cancel()
        await listener.stop()


async def _start(services: Sequence[str], mesh: MeshSettings, spans: Spans | None) -> list[Running]:
    """One after another: a service may need one that stands before it. Cancelled, it stops what has begun."""
    running: list[Running] = []
    # Whoever asks first asks for all of the process.
    known: Revocations | None = None
    try:
        for name in services:
            tracer = spans.tracer(name) if spans else None
            app = await BUILDERS[name](mesh)
            asks = app.revocations is not nothing_revoked
            running.append(Running(app, mesh, tracer, known if asks else None))
            await running[-1].start()
            known = running[-1].revocations if asks else known
    except BaseException:
        # A gRPC server that is only dropped can keep the process from ending.
        await asyncio.gather(*(one.stop(notice=0.0, grace=0.0) for one in running), return_exceptions=True)
        raise
    return running


def calm_collector() -> None:
    """Keeps the garbage collector from what stays for good: modules, descriptors, tables, servers.

    Going through those again and again costs pauses of many milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _say_ready() -> None:
    """Tells the supervisor, over the pipe that it gave."""
    found = os.environ.pop(READY_FD, "")
    if found:
        os.write(int(found), b"READY\n")
        os.close(int(found))


def _variable(settings: str, place: Sequence[int | str]) -> str:
    """The variable of the environment that a setting comes from."""
    owner = settings.removesuffix("Settings").lower()
    return "_".join(("SAMPAN", *([owner] if owner in SERVICES else []), *map(str, place))).upper()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 2 for an unknown service or a setting that is wrong."""
    parser = argparse.ArgumentParser(prog="sampan serve", description=__doc__)
    parser.add_argument("--process", default="", help="name of the process in logs; default: its services")
    parser.add_argument("services", nargs="+", choices=sorted(BUILDERS), metavar="SERVICE")
    given = parser.parse_args(arguments)
    try:
        mesh = MeshSettings()
        faults.use(mesh.faults)
        logs.configure(given.process or "+".join(given.services), mesh.log_level)
        uvloop.run(serve(given.services, mesh))
    except ValidationError as error:
        # Never the value itself: it may be a secret.
        for wrong in error.errors(include_input=False, include_url=False):
            name = _variable(error.title, wrong["loc"])
            print(f"sampan serve: {name}: {wrong['msg']}", file=sys.stderr)
        return 2
    return 0
