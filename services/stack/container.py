"""What the image runs: `init` prepares a volume for everybody, `migrate` the databases, `run` one process.

Each container sees its own folder of the volume only: a process has the secrets of its own services.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from services.stack import bootstrap, nats_part, redis_part
from services.stack.addresses import DEFAULT_PORTS, OUTSIDE, Addresses
from services.stack.envoy_part import Edge, edge_settings
from services.stack.files import write_private
from services.stack.home import Home
from services.stack.paths import ROOT
from services.stack.pki import EDGE, Pki
from services.stack.postgres_part import SUPERUSER
from services.stack.secrets import Secrets, load_or_make
from services.stack.service_parts import ServiceParts, serve_command, websocket_key
from services.stack.topology import PROCESSES, SERVICES, Process

if TYPE_CHECKING:
    from envoy.settings import Upstream

VOLUME = Path("/state")
EDGE_PORT = 8080
ADMIN_PORT = 9901
# Where each container tells its metrics, to the others in its network.
METRICS_PORT = 9464
EVERYWHERE = "0.0.0.0"  # noqa: S104 - a container's own network
# The same in every container, so that one address book stands for all.
PORTS = {name: 7001 + number for number, name in enumerate(SERVICES)}
PORTS |= {websocket_key(name): 7101 + number for number, name in enumerate(SERVICES)}


def main(arguments: list[str]) -> int:
    if arguments == ["init"]:
        initialise(VOLUME, os.environ)
    elif arguments == ["migrate"]:
        migrate(VOLUME, os.environ)
    elif len(arguments) == 2 and arguments[0] in ("run", "health"):
        process = next(one for one in PROCESSES if one.name == arguments[1])
        if arguments[0] == "health":
            return 0 if asyncio.run(is_healthy(VOLUME / process.name, process)) else 1
        become(VOLUME / process.name, process)
    else:
        print("usage: container init | migrate | run PROCESS | health PROCESS", file=sys.stderr)
        return 2
    return 0


def initialise(volume: Path, environment: Mapping[str, str]) -> None:
    """Makes secrets and certificates once, and writes what each container needs into its own folder."""
    home = Home(volume / "root")
    home.prepare()
    secrets = load_or_make(home, SERVICES)
    pki = Pki(home / "pki")
    pki.ensure((*SERVICES, EDGE))
    folders = {name: volume / name for name in ("postgres", "redis", "nats", "envoy")}
    folders |= {process.name: volume / process.name for process in PROCESSES}
    for folder in folders.values():
        folder.mkdir(mode=0o700, exist_ok=True)
    write_private(folders["postgres"] / "password", secrets.postgres_superuser)
    write_redis(folders["redis"], secrets)
    settings = json.loads(nats_part.configuration(secrets, DEFAULT_PORTS["nats"], "/data"))
    write_private(folders["nats"] / "nats.conf", json.dumps({**settings, "host": EVERYWHERE}, indent=1))
    for process in PROCESSES:
        found = process_environment(home, secrets, process, environment, folders[process.name])
        write_private(folders[process.name] / "environment.json", json.dumps(found, indent=1))
        for service in process.services:
            copy_identity(pki, service, folders[process.name])
    copy_identity(pki, EDGE, folders["envoy"])
    write_edge(pki, folders["envoy"], environment)


def write_redis(folder: Path, secrets: Secrets) -> None:
    users = folder / "users.acl"
    write_private(users, redis_part.acl(secrets.redis_users))
    text = redis_part.CONFIGURATION.format(
        host=EVERYWHERE,
        port=DEFAULT_PORTS["redis"],
        folder='"/tmp"',
        acl=redis_part.quoted(users),
    )
    write_private(folder / "redis.conf", text)


def copy_identity(pki: Pki, name: str, folder: Path) -> None:
    found = pki.identity(name)
    for path in (found.certificate, found.key, found.ca):
        write_private(folder / path.name, path.read_text())


def write_edge(pki: Pki, folder: Path, environment: Mapping[str, str]) -> None:
    """The same edge as on one machine, with the containers' names for addresses."""
    from envoy.generate import render, render_secret

    given = {**environment, "SAMPAN_EDGE_HOST": EVERYWHERE, "SAMPAN_EDGE_PORT": str(EDGE_PORT)}
    made = edge_settings(Edge(given), pki, PORTS, ADMIN_PORT)
    upstreams = tuple(_inside(one, one.name, one.name) for one in made.upstreams)
    websockets = tuple(
        dataclasses.replace(one, upstream=_inside(one.upstream, websocket_key(service.name), service.name))
        for one, service in zip(made.websockets, (s for s in SERVICES.values() if s.websocket), strict=True)
    )
    web = (host_of("web"), PORTS["web"])
    reflection = dataclasses.replace(made.reflection, addresses=(web,)) if made.reflection else None
    descriptors = folder / "descriptors.binpb"
    shutil.copyfile(ROOT / "gen" / "descriptors.binpb", descriptors)
    settings = dataclasses.replace(
        made,
        upstreams=upstreams,
        websockets=websockets,
        reflection=reflection,
        descriptors=descriptors,
        ca_file=folder / "ca.crt",
        cert_file=folder / f"{EDGE}.crt",
        key_file=folder / f"{EDGE}.key",
        secret_file=folder / f"{EDGE}.yaml",
    )
    write_private(settings.secret_file, render_secret(settings))
    write_private(folder / "envoy.yaml", render(settings))


def _inside(upstream: Upstream, port: str, service: str) -> Upstream:
    """An upstream at its address in the containers' network."""
    return dataclasses.replace(upstream, addresses=((host_of(service), PORTS[port]),))


def host_of(service: str) -> str:
    """The container that runs a service, by its name in the network."""
    return next(process.name for process in PROCESSES if service in process.services)


def outside(secrets: Secrets) -> dict[str, str]:
    """Where the servers are, as for any outside servers."""
    password = secrets.postgres_superuser
    return {
        OUTSIDE[
            "postgres"
        ]: f"postgresql://{SUPERUSER}:{password}@postgres:{DEFAULT_PORTS['postgres']}/postgres",
        OUTSIDE["redis"]: f"redis://redis:{DEFAULT_PORTS['redis']}",
        OUTSIDE["nats"]: f"nats://nats:{DEFAULT_PORTS['nats']}",
    }


def process_environment(
    home: Home, secrets: Secrets, process: Process, environment: Mapping[str, str], folder: Path
) -> dict[str, str]:
    """What a process is told: its own services' secrets, and where the others are."""
    own: dict[str, str] = {}
    for service in process.services:
        prefix = f"SAMPAN_{service.upper()}_"
        redis_password, nats_password = secrets.redis_users[service], secrets.nats_users[service]
        own |= {
            prefix + "REDIS_URL": f"redis://{service}:{redis_password}@redis:{DEFAULT_PORTS['redis']}/0",
            prefix + "NATS_URL": f"nats://{service}:{nats_password}@nats:{DEFAULT_PORTS['nats']}",
            prefix + "TLS_CERT": str(folder / f"{service}.crt"),
            prefix + "TLS_KEY": str(folder / f"{service}.key"),
            prefix + "TLS_CA": str(folder / "ca.crt"),
        }
    given = {**environment, **outside(secrets), **own}
    parts = ServiceParts(home, Pki(home / "pki"), Addresses(secrets, PORTS, given), given)
    listen = {service: f"{EVERYWHERE}:{PORTS[service]}" for service in process.services}
    sockets = {
        service: f"{EVERYWHERE}:{PORTS[websocket_key(service)]}"
        for service in process.services
        if SERVICES[service].websocket
    }
    made = parts.environment_of(listen, f"{EVERYWHERE}:{METRICS_PORT}", sockets)
    peers = {service: [f"{host_of(service)}:{PORTS[service]}"] for service in SERVICES}
    made |= {"SAMPAN_PEERS": json.dumps(peers), "SAMPAN_HOME": str(VOLUME / "files")}
    return {name: value for name, value in made.items() if name.startswith(("SAMPAN_", "OTEL_"))}


def migrate(volume: Path, environment: Mapping[str, str]) -> None:
    """Makes roles and databases, and brings these to their newest revisions."""
    secrets = load_or_make(Home(volume / "root"), SERVICES)
    addresses = Addresses(secrets, PORTS, {**environment, **outside(secrets)})

    async def work() -> list[str]:
        names = bootstrap.services_with_database()
        await bootstrap.ensure(addresses, names)
        return await bootstrap.migrate(addresses, names)

    print("migrated:", ", ".join(asyncio.run(work())) or "nothing to do")


def become(folder: Path, process: Process) -> None:
    variables = json.loads((folder / "environment.json").read_text())
    command = serve_command(process.name, process.services)
    os.execve(command[0], command, {**os.environ, **variables})  # noqa: S606 - no shell is wanted


async def is_healthy(folder: Path, process: Process) -> bool:
    """Whether every service of the process says SERVING, asked under the service's own certificate."""
    import grpc

    from services.mesh.channels import is_serving
    from services.mesh.tls import channel_credentials, server_name

    for service in process.services:
        paths = (folder / f"{service}.crt", folder / f"{service}.key", folder / "ca.crt")
        options = (("grpc.ssl_target_name_override", server_name(service)),)
        place = f"127.0.0.1:{PORTS[service]}"
        async with grpc.aio.secure_channel(place, channel_credentials(*paths), options) as channel:
            if not await is_serving(channel, 2.0):
                return False
    return True


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
