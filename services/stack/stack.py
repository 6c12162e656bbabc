"""One whole stack: which parts, in which order, and what must be true before it is called ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Mapping

from services.stack import ports as loopback
from services.stack.addresses import OUTSIDE, Addresses
from services.stack.endpoints import ADMIN
from services.stack.envoy_part import PORT, Edge, edge_ready, envoy_part
from services.stack.errors import StackError
from services.stack.home import Home
from services.stack.nats_part import nats_part
from services.stack.part import Part
from services.stack.pki import EDGE, OPERATOR, Pki
from services.stack.postgres_part import postgres_part
from services.stack.redis_part import redis_part
from services.stack.secrets import load_or_make
from services.stack.service_parts import ServiceParts, chosen, port_names
from services.stack.supervisor import Progress, Report, Supervisor, end_leftovers, together
from services.stack.topology import SERVERS, SERVICES

# Seconds between looks at the certificates.
RENEWAL_PERIOD = 3_600.0


class Stack:
    """Brings up everything in one home, and takes it down again. The caller holds the home's lock.

    With `servers_only` it stops short of the services and the edge, for those who run services by hand.
    """

    def __init__(
        self, home: Home, environment: Mapping[str, str], report: Report, *, servers_only: bool = False
    ) -> None:
        self.servers_only = servers_only
        self.home = home
        self.environment = environment
        self.report = report
        self.edge = Edge(environment)
        self.port = self.edge.port
        self.processes = chosen(environment)
        self.state = home.load_state()
        self.supervisor = Supervisor(home, self.state, report)
        self.pki = Pki(home / "pki")

    async def run(self, stop: asyncio.Event, when_ready: Report) -> None:
        """Starts all, calls `when_ready`, and returns when `stop` is set and everything has ended."""
        self.supervisor.opened("" if self.servers_only else self.edge.url, os.getpid())
        try:
            await self._clear_the_way()
            await unless(stop, self._start(when_ready))
            await self.supervisor.run(stop)
        except StackError as error:
            self.supervisor.journal.note("failed", error.part, reason=error.reason)
            raise
        finally:
            await self.supervisor.stop(self._stop_order())

    async def _clear_the_way(self) -> None:
        """What a killed supervisor left is ended first: it may hold ports and data."""
        left = await end_leftovers(self.state.parts)
        self.state.parts = {}
        if left:
            self.supervisor.journal.note("ended leftovers", "supervisor", parts=left)
        if not self.servers_only and not loopback.is_free(self.port, self.edge.host):
            hint = f"Stop what listens there, or choose another port: {PORT}={self.port + 1} ./scripts/up"
            raise StackError("envoy", f"port {self.port} on {self.edge.host} is taken", hint)
        names = [*self._own_servers(), *port_names(self.processes), ADMIN]
        seed = str(self.home.root)
        found = loopback.assign(names, self.state.ports, seed=seed, taken={self.port})
        self.state.ports = {**self.state.ports, **found}

    def _own_servers(self) -> list[str]:
        return [name for name in SERVERS if not self.environment.get(OUTSIDE[name])]

    async def _start(self, when_ready: Report) -> None:
        begun = asyncio.get_running_loop().time()
        secrets = load_or_make(self.home, SERVICES)
        addresses = Addresses(secrets, self.state.ports, self.environment)
        for name in SERVERS:
            addresses.socket(name)
        makers = {"postgres": postgres_part, "redis": redis_part, "nats": nats_part}
        servers = {
            name: makers[name](self.home, secrets, self.state.ports[name], self.environment)
            for name in self._own_servers()
        }
        await together(
            (
                self._start_database(servers.pop("postgres", None), addresses),
                *(self.supervisor.start(part, self._place(name)) for name, part in servers.items()),
                asyncio.to_thread(self.pki.ensure, (*SERVICES, EDGE, OPERATOR)),
            )
        )
        if not self.servers_only:
            await self._start_services(addresses)
        self.supervisor.ready()
        self.supervisor.tend(self._keep_certificates(), "certificates")
        milliseconds = round((asyncio.get_running_loop().time() - begun) * 1000)
        places = " ".join("{}={}:{}".format(name, *addresses.socket(name)) for name in SERVERS)
        when_ready(Progress("ready", milliseconds, places if self.servers_only else self.edge.url))

    async def _start_services(self, addresses: Addresses) -> None:
        services = ServiceParts(self.home, self.pki, addresses, self.environment)
        await together(
            (
                self.supervisor.start_all((part, self._listening(part)) for part in services.all()),
                self.supervisor.start(self._envoy(), self.edge.url),
            )
        )
        await edge_ready(self.edge)

    async def _keep_certificates(self) -> None:
        """A stack may outlive its certificates. Processes read renewed ones by themselves.

        A new authority is another matter: nobody believes both, so all are started anew, one by one.
        """
        authority = self.pki.identity(EDGE).ca
        known = authority.read_bytes()
        while True:
            await asyncio.sleep(RENEWAL_PERIOD)
            try:
                renewed = await asyncio.to_thread(self.pki.ensure, (*SERVICES, EDGE, OPERATOR))
            except OSError as error:
                self.supervisor.journal.note("certificates not renewed", "supervisor", reason=str(error))
                continue
            if renewed:
                self.supervisor.journal.note("certificates renewed", "supervisor", names=renewed)
            found = authority.read_bytes()
            if found != known:
                known = found
                _, services, _ = self._stop_order()
                await self.supervisor.replace([*services, "envoy"], "new authority")

    async def _start_database(self, part: Part | None, addresses: Addresses) -> None:
        from services.stack import bootstrap

        if part is not None:
            await self.supervisor.start(part, self._place("postgres"))
        clock = asyncio.get_running_loop().time
        begun = clock()
        names = bootstrap.services_with_database()
        made = await bootstrap.ensure(addresses, names)
        moved = await bootstrap.migrate(addresses, names)
        detail = "roles and databases made; " * made + (
            f"migrated {', '.join(moved)}" if moved else "up to date"
        )
        self.report(Progress("databases", round((clock() - begun) * 1000), detail))

    def _envoy(self) -> Part:
        ports = self.state.ports
        return envoy_part(self.home, self.edge, self.pki, ports, ports[ADMIN], self.environment)

    def _place(self, name: str) -> str:
        return f"{loopback.LOOPBACK}:{self.state.ports[name]}"

    def _listening(self, part: Part) -> str:
        for process in self.processes:
            if part.name in process.parts:
                return ", ".join(process.services)
        return ""

    def _stop_order(self) -> list[list[str]]:
        servers = ["envoy", *SERVERS]
        services = [name for name in self.supervisor.children if name not in servers]
        return [["envoy"], services, ["nats", "redis", "postgres"]]


async def unless(stop: asyncio.Event, work: Coroutine[object, object, None]) -> None:
    """Runs `work` to its end, or cancels it when `stop` is set first."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if task.done():
        task.result()
        return
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def stop_on_signals(stop: asyncio.Event, *, detached: bool) -> None:
    """SIGTERM and Ctrl-C stop; a closed terminal stops only what runs in it."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # A handler, not SIG_IGN: children would inherit that.
    loop.add_signal_handler(signal.SIGHUP, (lambda: None) if detached else stop.set)
