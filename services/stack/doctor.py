"""What usually keeps a stack from starting, found before it does, with what to do about each."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from services.stack import binaries, ports
from services.stack.addresses import DEFAULT_PORTS, OUTSIDE
from services.stack.envoy_part import Edge
from services.stack.errors import StackError
from services.stack.home import FOLDERS, STOPPED, Home
from services.stack.supervisor import is_same
from services.stack.topology import SERVERS

FINE, WARNING, TROUBLE = "ok", "warning", "trouble"

GIB = 1 << 30
# Below the first a start may fail half way; below the second it goes on for a while.
DISK_LEAST, DISK_LITTLE = GIB // 4, 2 * GIB
MEMORY_LITTLE = GIB
FILES_LEAST, FILES_FEW = 1024, 4096
# Seconds. Files from further ahead than this mean that the clock went back.
CLOCK_SLACK = 300.0
# 2026-01-01: this code did not exist before.
BORN = 1_767_225_600.0
MAJOR = "18"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: how it is, in words, and what to do when it is not fine."""

    about: str
    state: str
    words: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at."""

    home: Home
    environment: Mapping[str, str]

    @property
    def up(self) -> bool:
        return self.home.root.is_dir() and self.home.held()

    @property
    def place(self) -> Path:
        """The home, or the nearest folder above it that exists."""
        found = self.home.root
        while not found.exists() and found != found.parent:
            found = found.parent
        return found


def programs(patient: Patient) -> Iterator[Finding]:
    """Whether the servers' programs are there."""
    finders: dict[str, Callable[[], Path]] = {
        "postgres": lambda: binaries.postgres_programs() / "postgres",
        "redis": binaries.redis_server,
        "nats": binaries.nats_server,
        "envoy": binaries.envoy_server,
    }
    for name, find in finders.items():
        if patient.environment.get(OUTSIDE.get(name, "")):
            continue
        try:
            path = find()
        except StackError as error:
            yield Finding("programs", TROUBLE, f"{name}: {error.reason}", error.hint)
            continue
        if not os.access(path, os.X_OK):
            yield Finding(
                "programs", TROUBLE, f"{path} cannot be run", "Is its disk mounted noexec? Move .venv."
            )
            continue
        yield Finding("programs", FINE, f"{name} is there")


def home(patient: Patient) -> Iterator[Finding]:
    """Whether the home may be written to, and whether its secrets are private."""
    root = patient.home.root
    if not root.exists():
        if os.access(patient.place, os.W_OK | os.X_OK):
            yield Finding("home", FINE, f"{root} is made by the first start")
        else:
            advice = "Set SAMPAN_HOME to a folder that you may write to."
            yield Finding("home", TROUBLE, f"{patient.place} may not be written to", advice)
        return
    if not root.is_dir():
        yield Finding(
            "home", TROUBLE, f"{root} is no folder", "Set SAMPAN_HOME to a folder, or to a new name."
        )
        return
    if root.stat().st_uid != os.geteuid():
        advice = "Run as that user, or set SAMPAN_HOME to a folder of your own."
        yield Finding("home", TROUBLE, f"{root} belongs to another user", advice)
        return
    if not os.access(root, os.W_OK | os.X_OK) or os.statvfs(root).f_flag & os.ST_RDONLY:
        yield Finding(
            "home", TROUBLE, f"{root} may not be written to", f"chmod u+rwx {root}, or remount the disk."
        )
        return
    open_to_others = [
        path
        for path in (root, root / "secrets.json", root / "pki", root / "state.json")
        if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    ]
    for path in open_to_others:
        yield Finding("home", TROUBLE, f"others may read {path}", f"chmod go-rwx {path}")
    if not open_to_others:
        yield Finding("home", FINE, f"{root} is private and can be written to")


def disk(patient: Patient) -> Iterator[Finding]:
    """Room on the home's disk."""
    free = shutil.disk_usage(patient.place).free
    left = os.statvfs(patient.place)
    if free < DISK_LEAST:
        advice = "PostgreSQL stops when it is full: make room, or move SAMPAN_HOME to another disk."
        yield Finding("disk", TROUBLE, f"{free / GIB:.2f} GiB free at {patient.place}", advice)
    elif left.f_files and left.f_favail < 1000:
        yield Finding(
            "disk", TROUBLE, f"{left.f_favail} inodes free at {patient.place}", "Remove small files."
        )
    elif free < DISK_LITTLE:
        yield Finding("disk", WARNING, f"{free / GIB:.1f} GiB free at {patient.place}", "Make room soon.")
    else:
        yield Finding("disk", FINE, f"{free / GIB:.0f} GiB free")


def memory(_: Patient) -> Iterator[Finding]:
    """Memory that can be had."""
    free = psutil.virtual_memory().available
    if free < MEMORY_LITTLE:
        advice = "The stack takes about 1 GiB: end something else."
        yield Finding("memory", WARNING, f"{free / GIB:.1f} GiB to be had", advice)
    else:
        yield Finding("memory", FINE, f"{free / GIB:.1f} GiB to be had")


def edge_port(patient: Patient) -> Iterator[Finding]:
    """Whether the edge's port is free, or ours."""
    try:
        edge = Edge(patient.environment)
        port, host = edge.port, edge.host
    except StackError as error:
        yield Finding("port", TROUBLE, error.reason, error.hint)
        return
    if ports.is_free(port, host):
        yield Finding("port", FINE, f"{port} is free")
    elif patient.up and patient.home.load_state().edge.endswith(f":{port}"):
        yield Finding("port", FINE, f"{port} is held by this stack")
    else:
        advice = f"Stop it, or choose another: SAMPAN_EDGE_PORT={min(port + 1, 65_535)} ./scripts/up"
        yield Finding("port", TROUBLE, f"{port} on {host} is taken by {holder(port)}", advice)


def holder(port: int) -> str:
    """Who listens on a port, as far as we may see it."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.pid or not connection.laddr:
                continue
            if connection.laddr.port == port:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        return "another program"
    return "another program"


def limits(_: Patient) -> Iterator[Finding]:
    """How many files a process may open: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FILES_FEW:
        yield Finding("limits", FINE, f"{'any number of' if soft < 0 else soft} open files")
        return
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    advice = (
        f"ulimit -n {most}" if most > soft else "Raise nofile in /etc/security/limits.conf and sign in again."
    )
    state = TROUBLE if soft < FILES_LEAST else WARNING
    yield Finding("limits", state, f"a process may open {soft} files only", advice)


def namespaces(patient: Patient) -> Iterator[Finding]:
    """How PostgreSQL is kept from being root, when we are."""
    if os.geteuid() != 0 or patient.environment.get(OUTSIDE["postgres"]):
        return
    try:
        runner = binaries.Unprivileged(patient.place, binaries.postgres_programs() / "postgres")
    except StackError:
        return  # told by `programs`
    if runner.namespace_works():
        yield Finding("root", FINE, "PostgreSQL runs in a user namespace")
    elif shutil.which("setpriv"):
        advice = "It works; an ordinary user is better."
        yield Finding("root", WARNING, "user namespaces are forbidden: PostgreSQL runs as nobody", advice)
    else:
        advice = "Install util-linux, run as an ordinary user, or set SAMPAN_POSTGRES_URL."
        yield Finding(
            "root", TROUBLE, "PostgreSQL refuses to be root, and there is no unshare or setpriv", advice
        )


def clock(patient: Patient) -> Iterator[Finding]:
    """Whether the clock can be right: tokens and certificates are worth nothing with a wrong one."""
    now = time.time()
    advice = "Set the clock: timedatectl set-ntp true"
    if now < BORN:
        yield Finding("clock", TROUBLE, f"it is {time.strftime('%Y-%m-%d')} here", advice)
        return
    known = [patient.home / name for name in ("state.json", "secrets.json", "pki/index.json")]
    ahead = [path for path in known if path.exists() and path.stat().st_mtime > now + CLOCK_SLACK]
    if ahead:
        yield Finding("clock", TROUBLE, f"{ahead[0]} is from the future: the clock went back", advice)
    else:
        yield Finding("clock", FINE, time.strftime("%Y-%m-%d %H:%M:%S %z"))


def old_state(patient: Patient) -> Iterator[Finding]:
    """What an earlier run, an earlier version or a half restore left."""
    root = patient.home.root
    if not root.exists():
        return
    names = {path.name for path in root.iterdir()}
    if names and not names & {*FOLDERS, "secrets.json", "state.json"}:
        advice = "Set SAMPAN_HOME to a new or empty folder."
        yield Finding("state", TROUBLE, f"{root} holds files that are not Sampan's", advice)
        return
    version = root / "postgres" / "data" / "PG_VERSION"
    if version.exists() and not (root / "secrets.json").exists():
        advice = "Put secrets.json back, or restore a backup: sampan reset, then sampan restore FILE"
        yield Finding("state", TROUBLE, "there is data without secrets.json, which has its keys", advice)
    if version.exists() and os.access(version, os.R_OK) and version.read_text().strip() != MAJOR:
        advice = "Back up with the Sampan that made it, then sampan reset and sampan restore FILE."
        found = version.read_text().strip()
        yield Finding("state", TROUBLE, f"the data is of PostgreSQL {found}, the program is {MAJOR}", advice)
    state = patient.home.load_state()
    left = [name for name, running in state.parts.items() if is_same(running)]
    if not patient.up and left:
        yield Finding("state", WARNING, f"left by a killed start: {', '.join(left)}", "Run ./scripts/down.")
    elif not patient.up and state.phase != STOPPED:
        yield Finding(
            "state", WARNING, f"the last run did not end by itself ({state.phase})", "Run ./scripts/up."
        )
    else:
        yield Finding(
            "state", FINE, "as the last run should leave it" if not patient.up else "the stack is up"
        )


def outside(patient: Patient) -> Iterator[Finding]:
    """Whether servers that the caller named answer."""
    import asyncio

    from services.mesh import liveness
    from services.stack.addresses import Addresses
    from services.stack.secrets import Secrets

    addresses = Addresses(Secrets(), {}, patient.environment)
    for name in SERVERS:
        if not addresses.outside(name):
            continue
        try:
            host, port = addresses.socket(name)
        except StackError as error:
            yield Finding("outside", TROUBLE, error.reason, error.hint)
            continue
        if asyncio.run(liveness.PROBES[name](host, port)):
            yield Finding("outside", FINE, f"{name} answers at {host}:{port}")
        else:
            advice = f"Is {OUTSIDE[name]} right? The usual port is {DEFAULT_PORTS[name]}."
            yield Finding("outside", TROUBLE, f"{name} does not answer at {host}:{port}", advice)


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    programs,
    home,
    disk,
    memory,
    edge_port,
    limits,
    namespaces,
    clock,
    old_state,
    outside,
)


def examine(patient: Patient) -> list[Finding]:
    """All findings. A check that cannot look says so."""
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found.extend(check(patient))
        except OSError as error:
            words = f"cannot look: {error.strerror}: {error.filename or ''}"
            found.append(Finding(check.__name__, TROUBLE, words, "Run as the owner of SAMPAN_HOME."))
    return found
