"""A private stack for tests: its own home and ports, started once per run, shared by all workers."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from services.stack.addresses import Addresses, addresses_of
from services.stack.home import Home, State
from services.stack.pki import Pki

ROOT = Path(__file__).resolve().parents[2]
# Passwords of tests need no costly hashes.
CHEAP = {"SAMPAN_IDENTITY_ARGON2_MEMORY_KIB": "64", "SAMPAN_IDENTITY_ARGON2_PASSES": "1"}
# What a home keeps of a stack that is down; ports and logs are made anew.
KEPT = ("secrets.json", "pki", "postgres")


def free_port() -> int:
    """A port below the kernel's ephemeral range, so that no outgoing connection takes it meanwhile."""
    # By chance, so that workers that ask at the same time do not get the same one.
    for port in random.sample(range(20_000, 32_000), 1_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def environment(
    home: Path, port: int, extra: Mapping[str, str] | None = None, *, measured: bool = True
) -> dict[str, str]:
    """The environment of a command that shall see this stack and no other."""
    left_out = ("SAMPAN_",) if measured else ("SAMPAN_", "COVERAGE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return inherited | {
        "SAMPAN_HOME": str(home),
        "SAMPAN_EDGE_PORT": str(port),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
        **CHEAP,
        **(extra or {}),
    }


@dataclass(frozen=True)
class Stack:
    """A running stack. Coverage sees what it does if it is `measured`."""

    home: Path
    port: int
    extra: Mapping[str, str] | None = None
    measured: bool = True

    @property
    def commanded(self) -> Stack:
        """The same with commands that are measured, whatever its services are."""
        return replace(self, measured=True)

    @property
    def url(self) -> str:
        """Where its edge listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> State:
        """Its ports and processes, as the supervisor keeps them."""
        return Home(self.home).load_state()

    @property
    def addresses(self) -> Addresses:
        """Where its servers are and how to enter."""
        return addresses_of(Home(self.home), self.state, {})

    @property
    def pki(self) -> Pki:
        """Its certificates."""
        return Pki(self.home / "pki")

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a command that shall see this stack."""
        more = {**(self.extra or {}), **(extra or {})}
        return environment(self.home, self.port, more, measured=self.measured)

    def command(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs `sampan` on this stack."""
        return subprocess.run(
            [sys.executable, "-m", "services.stack.cli", *arguments],
            env=self.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )


def start(home: Path, extra: Mapping[str, str] | None = None, *, measured: bool = True) -> Stack:
    """Brings a stack up in a home of its own. Raises with what the command said when it does not.

    It runs as a child, so that coverage sees its supervisor, too; `sampan down` stops it.
    """
    stack = Stack(home, free_port(), measured=measured)
    said = home.parent / f"{home.name}.out"
    with said.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.stack.cli", "up"],
            env=stack.environment(extra),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready "):
            return stack
    raise RuntimeError(f"the stack did not start ({process.wait()}):\n{said.read_text()}")


def make_template(home: Path) -> None:
    """Makes a home with databases that are migrated: most of what a first start takes."""
    stack = Stack(home, free_port())
    for command in (("infra", "up", "--detach"), ("infra", "down")):
        done = stack.command(*command)
        assert done.returncode == 0, done.stderr


def copy_template(template: Path, home: Path) -> None:
    """Makes a home as if a stack had been up in it before."""
    home.mkdir(mode=0o700)
    # With owners: the database may belong to somebody else.
    subprocess.run(("cp", "-a", *(str(template / name) for name in KEPT), str(home)), check=True)


def hasten(home: Path) -> None:
    """The database of this home waits for no disk: it would lose something only with the whole machine."""
    with (home / "postgres" / "data" / "postgresql.auto.conf").open("a") as settings:
        settings.write("fsync = off\n")


async def execute(url: str, *statements: str) -> None:
    """Runs statements one by one, each in its own transaction."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
