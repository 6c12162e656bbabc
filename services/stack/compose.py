"""docker-compose.yml from the topology: the same parts as on one machine, with official images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from services.stack.container import EDGE_PORT, VOLUME
from services.stack.topology import PROCESSES, Process

FILE = "docker-compose.yml"
HEAD = """\
# Made by ./scripts/gen from services/stack/topology.py: do not edit.
# Start it: docker compose up --build --wait
# Secrets and certificates are made by `init` at the first start, into the volume `state`; none is here.
"""
IMAGES = {
    "postgres": "postgres:18",
    "redis": "redis:8-alpine",
    "nats": "nats:2.12-alpine",
    "envoy": "envoyproxy/envoy:v1.40.0",
}
OURS = "sampan:latest"
# One ordinary user everywhere: what `init` writes is private, and each reads its own folder of it.
USER = "10001:10001"
FAST = {"interval": "5s", "timeout": "4s", "retries": 12, "start_period": "10s"}


def document() -> dict[str, Any]:
    """The whole file. Only the edge has a port on the host."""
    return {
        "name": "sampan",
        "services": {
            "init": _init(),
            **_servers(),
            "migrate": _migrate(),
            **{process.name: _process(process) for process in PROCESSES},
            "envoy": _envoy(),
        },
        "volumes": {"state": {}, "postgres": {}, "nats": {}, "files": {}},
    }


def write(target: Path) -> None:
    text = yaml.safe_dump(document(), sort_keys=False, width=110, allow_unicode=True)
    target.write_text(HEAD + text, encoding="utf-8")


def _hardened(**more: Any) -> dict[str, Any]:
    return {
        "user": USER,
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108 - the container's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        **more,
    }


def _own_folder(name: str) -> dict[str, Any]:
    """A container's part of the volume, and no other's."""
    return {
        "type": "volume",
        "source": "state",
        "target": f"{VOLUME}/{name}",
        "read_only": True,
        "volume": {"subpath": name},
    }


def _ours(command: list[str], **more: Any) -> dict[str, Any]:
    return _hardened(image=OURS, command=command, **more)


def _settings() -> dict[str, str]:
    """What the person who starts it may say: see the READMEs."""
    return {
        "SAMPAN_ENVIRONMENT": "${SAMPAN_ENVIRONMENT:-development}",
        "SAMPAN_RATE_LIMIT_SCALE": "${SAMPAN_RATE_LIMIT_SCALE:-1}",
        "SAMPAN_EDGE_TRACE_PERCENT": "${SAMPAN_EDGE_TRACE_PERCENT:-1}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "${OTEL_EXPORTER_OTLP_ENDPOINT:-}",
    }


def _init() -> dict[str, Any]:
    # The image owns these folders, and a new volume takes the owner of where it is first mounted.
    volumes = [f"state:{VOLUME}", *(f"{name}:/volumes/{name}" for name in ("postgres", "nats", "files"))]
    return _ours(["init"], build=".", environment=_settings(), volumes=volumes)


def _after(**conditions: str) -> dict[str, Any]:
    return {name: {"condition": f"service_{condition}"} for name, condition in conditions.items()}


def _servers() -> dict[str, Any]:
    ready = _after(init="completed_successfully")
    return {
        "postgres": _hardened(
            image=IMAGES["postgres"],
            environment={"POSTGRES_PASSWORD_FILE": f"{VOLUME}/postgres/password"},
            volumes=[_own_folder("postgres"), "postgres:/var/lib/postgresql"],
            tmpfs=["/tmp", "/var/run/postgresql"],  # noqa: S108
            shm_size="256m",
            depends_on=ready,
            restart="unless-stopped",
            stop_signal="SIGINT",
            healthcheck={"test": ["CMD", "pg_isready", "-h", "127.0.0.1", "-U", "postgres"], **FAST},
        ),
        "redis": _hardened(
            image=IMAGES["redis"],
            command=["redis-server", f"{VOLUME}/redis/redis.conf"],
            volumes=[_own_folder("redis")],
            depends_on=ready,
            restart="unless-stopped",
            # Nobody may do anything without a password, and that answer shows that it is there.
            healthcheck={"test": ["CMD-SHELL", "redis-cli ping 2>&1 | grep -Eq 'PONG|NOAUTH'"], **FAST},
        ),
        "nats": _hardened(
            image=IMAGES["nats"],
            command=["--config", f"{VOLUME}/nats/nats.conf"],
            volumes=[_own_folder("nats"), "nats:/data"],
            depends_on=ready,
            restart="unless-stopped",
            healthcheck={"test": ["CMD", "nc", "-z", "127.0.0.1", "4222"], **FAST},
        ),
    }


def _migrate() -> dict[str, Any]:
    root = {**_own_folder("root"), "read_only": False}
    return _ours(["migrate"], volumes=[root], depends_on=_after(postgres="healthy"))


def _process(process: Process) -> dict[str, Any]:
    servers = _after(migrate="completed_successfully", redis="healthy", nats="healthy")
    return _ours(
        ["run", process.name],
        volumes=[_own_folder(process.name), f"files:{VOLUME}/files"],
        depends_on=servers,
        restart="unless-stopped",
        stop_grace_period="20s",
        deploy={"replicas": process.replicas},
        healthcheck={
            "test": ["CMD", "python", "-m", "services.stack.container", "health", process.name],
            **FAST,
        },
    )


def _envoy() -> dict[str, Any]:
    probe = (
        f"exec 3<>/dev/tcp/127.0.0.1/{EDGE_PORT} && printf 'GET /healthz HTTP/1.1\\r\\nhost: edge\\r\\n"
        "connection: close\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"
    )
    return _hardened(
        image=IMAGES["envoy"],
        entrypoint=["envoy"],
        command=[
            "--config-path",
            f"{VOLUME}/envoy/envoy.yaml",
            "--disable-hot-restart",
            "--log-level",
            "warn",
        ],
        ports=[f"${{SAMPAN_EDGE_PORT:-8080}}:{EDGE_PORT}"],
        volumes=[_own_folder("envoy")],
        depends_on=_after(**{process.name: "healthy" for process in PROCESSES}),
        restart="unless-stopped",
        healthcheck={"test": ["CMD", "bash", "-c", probe], **FAST},
    )
