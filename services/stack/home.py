"""SAMPAN_HOME: what lies where, who holds it, and the state that outlives a start."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from services.stack.errors import StackError
from services.stack.files import write_private
from services.stack.paths import ROOT

# What the sandbox bank has taken.
BANK = "bank"
FOLDERS = ("pki", "postgres", "redis", "nats", "logs", "run", "files", "cache", BANK)
FILES = ("secrets.json", "state.json", "lock")

STOPPED, STARTING, READY, STOPPING = "stopped", "starting", "ready", "stopping"


@dataclass(slots=True)
class Running:
    """A process as the kernel knows it: pids come back, a pid with its start time does not."""

    pid: int
    started: float
    # How often it was started again after it had ended by itself.
    restarts: int = 0


@dataclass(slots=True)
class State:
    """What one start leaves for the next, and for `down` and `status`. Ports are kept for good."""

    phase: str = STOPPED
    edge: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    supervisor: Running | None = None
    parts: dict[str, Running] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> State:
        raw: dict[str, Any] = json.loads(text)
        supervisor = raw.get("supervisor")
        return cls(
            phase=raw.get("phase", STOPPED),
            edge=raw.get("edge", ""),
            ports=dict(raw.get("ports", {})),
            supervisor=Running(**supervisor) if supervisor else None,
            parts={name: Running(**running) for name, running in raw.get("parts", {}).items()},
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


class Home:
    """One SAMPAN_HOME. Nothing outside of it is ever written or has its mode changed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Home:
        named = environment.get("SAMPAN_HOME")
        return cls(Path(named).expanduser().absolute() if named else ROOT / ".sampan")

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        return self.root / "run"

    def prepare(self) -> None:
        """Makes the folders, readable by their owner only."""
        try:
            self._refuse_foreign_folder()
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.chmod(0o700)
            for name in FOLDERS:
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StackError(
                "home",
                f"{self.root}: {error.strerror}",
                "Set SAMPAN_HOME to a folder that you may write to.",
            ) from None

    def _refuse_foreign_folder(self) -> None:
        """A folder full of other things would lose its mode, and later its content to `sampan reset`."""
        if self.root.is_dir() and self.root.stat().st_uid != os.geteuid():
            hint = "Run as that user, or set SAMPAN_HOME to a folder of your own."
            raise StackError("home", f"{self.root} belongs to another user", hint)
        names = {path.name for path in self.root.iterdir()} if self.root.is_dir() else set()
        if names and not names & {*FOLDERS, *FILES}:
            raise StackError(
                "home",
                f"{self.root} holds files that are not Sampan's",
                "Set SAMPAN_HOME to a new or empty folder.",
            )

    def load_state(self) -> State:
        try:
            return State.from_json((self.root / "state.json").read_text())
        except FileNotFoundError:
            return State()
        except (ValueError, TypeError):
            # Lost ports and pids are picked and found anew; refusing to start would help nobody.
            return State()

    def save_state(self, state: State) -> None:
        write_private(self.root / "state.json", state.to_json())

    def claim(self) -> HomeLock | None:
        """The lock of the one supervisor, the state set to starting; None while another process has it."""
        lock = self.hold()
        if lock is not None:
            state = self.load_state()
            state.phase, state.supervisor = STARTING, None
            self.save_state(state)
        return lock

    def hold(self) -> HomeLock | None:
        """The lock alone."""
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return HomeLock(descriptor)

    def held(self) -> bool:
        """Whether a supervisor is alive in this home."""
        if not (self.root / "lock").exists():
            return False
        lock = self.hold()
        if lock is None:
            return True
        lock.release()
        return False

    def erase(self) -> None:
        """Removes all that Sampan made here, and the folder itself when nothing else is left."""
        for name in FOLDERS:
            if (self.root / name).exists():
                shutil.rmtree(self.root / name)
        for name in FILES:
            (self.root / name).unlink(missing_ok=True)
        if self.root.is_dir() and not any(self.root.iterdir()):
            self.root.rmdir()


class HomeLock:
    """An flock: the kernel lets go of it when its holder dies, however it dies. Kept across fork."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def release(self) -> None:
        os.close(self.descriptor)
