"""PostgreSQL as a part: one cluster, reached over loopback with SCRAM passwords only."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from services.mesh import liveness
from services.stack import binaries
from services.stack.errors import StackError
from services.stack.files import write_private
from services.stack.home import Home
from services.stack.part import Part, inherited
from services.stack.ports import LOOPBACK
from services.stack.secrets import Secrets

SUPERUSER = "postgres"

CONFIGURATION = """\
listen_addresses = '{host}'
port = {port}
# A socket in a shared folder would be a second door; there is one.
unix_socket_directories = ''
password_encryption = scram-sha-256
max_connections = 300
shared_buffers = 64MB
work_mem = 8MB
maintenance_work_mem = 64MB
jit = off
max_wal_size = 512MB
# Wakes once a second, not five times, and may write as much in a second.
bgwriter_delay = 1s
bgwriter_lru_maxpages = 500
wal_compression = on
fsync = on
synchronous_commit = on
full_page_writes = on
timezone = 'UTC'
log_timezone = 'UTC'
# Statements and row values hold secrets and personal data: neither is ever logged.
log_statement = none
log_min_error_statement = panic
log_error_verbosity = terse
log_parameter_max_length_on_error = 0
log_checkpoints = off
log_line_prefix = '%m [%p] %q%u@%d '
"""

# Before recovery all files must be on disk. One system call for the file system takes milliseconds, going
# through thousands of files takes seconds on a busy machine. Older kernels do not report a failed write.
SYNC_AT_ONCE = "recovery_init_sync_method = syncfs\n"
SYNC_SINCE = (5, 8)

ACCESS = f"""\
# type  database  user  address          method
host    all       all   {LOOPBACK}/32    scram-sha-256
"""


class Cluster:
    """The data folder and what must be done to it before a server can run on it."""

    def __init__(self, folder: Path, secrets: Secrets, port: int, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.secrets = secrets
        self.port = port
        self.environment = environment
        self.programs = binaries.postgres_programs()
        self.runner = binaries.Unprivileged(folder, self.programs / "postgres")
        self._leftover = ""

    def prepare(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._create()
        self._remove_stale_pid()
        self._write("postgresql.conf", configuration(self.port))
        self._write("pg_hba.conf", ACCESS)

    def command(self) -> tuple[str, ...]:
        # The last step before the server: namespaces and changes of identity clear the death signal.
        deathbed = binaries.dies_with_parent("INT")
        return (*self.runner.prefix(), *deathbed, str(self.programs / "postgres"), "-D", str(self.data))

    def _create(self) -> None:
        """Makes the cluster beside its place and moves it there: half a cluster never looks like one."""
        fresh = self.folder / "fresh"
        password = self.folder / "password"
        shutil.rmtree(fresh, ignore_errors=True)
        write_private(password, self.secrets.postgres_superuser)
        prefix = self.runner.prefix()
        self._hand_over(password)
        options = ("--auth=scram-sha-256", f"--pwfile={password}", f"--username={SUPERUSER}")
        locale = ("--locale=C.UTF-8", "--encoding=UTF8", "--no-instructions")
        try:
            done = subprocess.run(
                (*prefix, str(self.programs / "initdb"), "-D", str(fresh), *options, *locale),
                env=inherited(self.environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            password.unlink(missing_ok=True)
        if done.returncode != 0:
            reason = " ".join(done.stderr.strip().splitlines()[-2:]) or f"exit code {done.returncode}"
            raise StackError("postgres", f"initdb failed: {reason}")
        fresh.rename(self.data)

    def _write(self, name: str, text: str) -> None:
        path = self.data / name
        if path.exists() and path.read_text() == text:
            return
        write_private(path, text)
        self._hand_over(path)

    def _hand_over(self, path: Path) -> None:
        owner = binaries.owner_of(self.folder)
        if owner != os.geteuid():
            os.chown(path, owner, owner)

    def _remove_stale_pid(self) -> None:
        """PostgreSQL refuses to start while the pid in its lock file lives, be it by now another program's.

        The file is removed only if no process works in the data folder: two servers on it would destroy it.
        """
        path = self.data / "postmaster.pid"
        try:
            self._leftover = path.read_text()
            pid = int(self._leftover.split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        if psutil.pid_exists(pid) and not any(
            works_in(process, self.data) for process in psutil.process_iter()
        ):
            path.unlink(missing_ok=True)

    def accepts(self) -> bool:
        """Whether the server says it takes logins: a connection alone is answered earlier than that."""
        try:
            text = (self.data / "postmaster.pid").read_text()
        except OSError:
            return False
        lines = text.splitlines()
        # What a killed server left says ready, too.
        return text != self._leftover and len(lines) >= 8 and lines[7].strip() == "ready"


def configuration(port: int) -> str:
    text = CONFIGURATION.format(host=LOOPBACK, port=port)
    return text + SYNC_AT_ONCE if syncs_at_once(platform.system(), platform.release()) else text


def syncs_at_once(system: str, release: str) -> bool:
    """Whether this kernel writes a whole file system out on demand and tells when that failed."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return system == "Linux" and numbers is not None and tuple(map(int, numbers.groups())) >= SYNC_SINCE


def works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()) == folder
    except (psutil.Error, OSError):
        return False


def postgres_part(home: Home, secrets: Secrets, port: int, environment: Mapping[str, str]) -> Part:
    cluster = Cluster(home / "postgres", secrets, port, environment)

    async def accepts() -> bool:
        return cluster.accepts()

    async def answers() -> bool:
        return await liveness.postgres(LOOPBACK, port)

    return Part(
        name="postgres",
        command=cluster.command(),
        environment={**inherited(environment), "LC_ALL": "C.UTF-8"},
        folder=cluster.folder,
        ready=accepts,
        alive=answers,
        prepare=cluster.prepare,
        stop_signal=signal.SIGINT,
    )


def url(role: str, password: str, port: int, database: str) -> str:
    return f"postgresql://{role}:{password}@{LOOPBACK}:{port}/{database}"
