"""Service processes as parts: which services run together, and what each is told by its environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT

from services.stack import binaries
from services.stack.addresses import OUTSIDE, Addresses
from services.stack.errors import StackError
from services.stack.home import BANK, Home
from services.stack.part import Part, inherited
from services.stack.paths import ROOT
from services.stack.pki import Pki
from services.stack.ports import LOOPBACK
from services.stack.secrets import SANDBOX
from services.stack.topology import PROCESSES, REPLICAS, SERVERS, SERVICES, Process, processes

# Read by libraries that services use; everything else a service knows is in SAMPAN_ variables.
FOREIGN_PREFIXES = ("SAMPAN_", "OTEL_", "GRPC_", "AWS_", "COVERAGE_")
# Not a service's business: URLs of roles that may change schemas, and what is said anew for each process.
WITHHELD = (OUTSIDE["postgres"], "SAMPAN_READY_FD", "SAMPAN_PEERS", "SAMPAN_PARTS")
WITHHELD_ENDINGS = ("_OWNER_URL", "_LISTEN")


def replica_key(service: str, replica: int) -> str:
    """The name under which a replica's port is remembered."""
    return service if replica == 0 else f"{service}/{replica}"


def websocket_key(key: str) -> str:
    """The name under which the port of a replica's WebSocket listener is remembered."""
    return f"{key}/websocket"


def metrics_key(part: str) -> str:
    """The name under which the port is remembered where a process tells its metrics."""
    return f"metrics/{part}"


def chosen(environment: Mapping[str, str]) -> tuple[Process, ...]:
    """The processes that this environment wants. Raises StackError."""
    try:
        return processes(environment)
    except ValueError as error:
        raise StackError("replicas", f"{REPLICAS}: {error}", f"Say {REPLICAS}='{{\"people\": 2}}'") from None


def port_names(of: Iterable[Process] = PROCESSES) -> list[str]:
    return [
        *(metrics_key(part) for process in of for part in process.parts),
        *_service_ports(of),
    ]


def _service_ports(of: Iterable[Process]) -> list[str]:
    keys = [
        (SERVICES[service], replica_key(service, replica))
        for process in of
        for replica in range(process.replicas)
        for service in process.services
    ]
    return [key for _, key in keys] + [websocket_key(key) for service, key in keys if service.websocket]


def peers(ports: Mapping[str, int], of: Iterable[Process] = PROCESSES) -> dict[str, list[str]]:
    """Addresses of all replicas of every service."""
    return {
        service: [f"{LOOPBACK}:{ports[replica_key(service, replica)]}" for replica in range(process.replicas)]
        for process in of
        for service in process.services
    }


def websocket_places(service: str, ports: Mapping[str, int], of: Iterable[Process] = PROCESSES) -> list[str]:
    """Addresses of the WebSocket listeners of all replicas of a service."""
    return [
        f"{LOOPBACK}:{ports[websocket_key(replica_key(service, replica))]}"
        for process in of
        if service in process.services
        for replica in range(process.replicas)
    ]


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """Makes the parts of the topology's processes."""

    home: Home
    pki: Pki
    addresses: Addresses
    environment: Mapping[str, str]

    def all(self) -> list[Part]:
        found = chosen(self.environment)
        return [self.part(process, replica) for process in found for replica in range(process.replicas)]

    def part(self, process: Process, replica: int) -> Part:
        name = process.parts[replica]
        listen = {
            service: f"{LOOPBACK}:{self.addresses.ports[replica_key(service, replica)]}"
            for service in process.services
        }
        sockets = {
            service: f"{LOOPBACK}:{self.addresses.ports[websocket_key(replica_key(service, replica))]}"
            for service in process.services
            if SERVICES[service].websocket
        }
        return Part(
            name=name,
            command=(*binaries.dies_with_parent("INT"), *serve_command(name, process.services)),
            environment=self.environment_of(
                listen, f"{LOOPBACK}:{self.addresses.ports[metrics_key(name)]}", sockets
            ),
            folder=ROOT,
            announces=True,
            # The edge is gone when services are stopped, so nobody needs notice: finish calls and end.
            stop_signal=SIGINT,
            attempts=2,
        )

    def environment_of(
        self, listen: Mapping[str, str], metrics: str = "", sockets: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The whole environment of a process that runs the services in `listen` at those addresses.

        It tells its metrics at `metrics`, if that is an address. `sockets` says where services with
        WebSockets listen for them.
        """
        made = self._common() | {"SAMPAN_METRICS_LISTEN": metrics}
        made |= {
            f"SAMPAN_{service.upper()}_WEBSOCKET_LISTEN": place for service, place in (sockets or {}).items()
        }
        for service, address in listen.items():
            made.update(self._own(service, address))
        passed = {name: value for name, value in self.environment.items() if is_passed(name)}
        # What the caller says wins, but for where things are in this home.
        return {**inherited(self.environment), **made, **passed, "SAMPAN_HOME": str(self.home.root)}

    def _common(self) -> dict[str, str]:
        return {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPYCACHEPREFIX": str(bytecode_cache(self.home)),
            "SAMPAN_PEERS": json.dumps(peers(self.addresses.ports, chosen(self.environment))),
            "SAMPAN_PARTS": json.dumps({name: self.addresses.socket(name) for name in SERVERS}),
        }

    def _own(self, service: str, address: str) -> dict[str, str]:
        prefix = f"SAMPAN_{service.upper()}_"
        identity = self.pki.identity(service)
        made = {
            "LISTEN": address,
            "TLS_CERT": str(identity.certificate),
            "TLS_KEY": str(identity.key),
            "TLS_CA": str(identity.ca),
            "REDIS_URL": self.addresses.redis(service),
            "NATS_URL": self.addresses.nats(service),
        }
        if SERVICES[service].database:
            made["DATABASE_URL"] = self.addresses.database(service)
            made["MASTER_KEY"] = self.addresses.secrets.master_keys[service]
        if SERVICES[service].bank:
            made["SANDBOX_SECRET"] = self.addresses.secrets.provider_keys[SANDBOX]
            made["SANDBOX_JOURNAL"] = str(self.home / BANK)
        return {prefix + name: value for name, value in made.items()}


def is_passed(name: str) -> bool:
    """Whether a service gets this variable of the caller's."""
    return name.startswith(FOREIGN_PREFIXES) and name not in WITHHELD and not name.endswith(WITHHELD_ENDINGS)


def serve_command(name: str, services: tuple[str, ...]) -> tuple[str, ...]:
    return (sys.executable, "-m", "services.stack.process", "--process", name, *services)


def bytecode_cache(home: Home) -> Path:
    """Where compiled Python goes: beside the packages, so that all homes share it, if that can be written."""
    shared = Path(sys.prefix) / "bytecode"
    try:
        shared.mkdir(exist_ok=True)
        probe = shared / ".writable"
        probe.touch()
    except OSError:
        return home / "cache"
    return shared
