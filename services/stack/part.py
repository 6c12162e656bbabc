"""What the supervisor must know of a process in order to run it."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

# What children get of the caller's environment, besides what is made for them.
INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    # Tests measure the processes that they start.
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
)

Probe = Callable[[], Awaitable[bool]]


def nothing() -> None:
    """No preparation is needed."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack.

    `ready` is asked until it says yes; a part with `announces` says so itself, by writing READY to the pipe
    named in SAMPAN_READY_FD. `prepare` runs before every start, also after a crash. `alive` finds what hangs.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    ready: Probe | None = None
    alive: Probe | None = None
    announces: bool = False
    prepare: Callable[[], None] = nothing
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout: float = 10.0
    start_timeout: float = 30.0
    # Tries at the first start: a server may find traces of its killed predecessor, a service may not.
    attempts: int = 5


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    known = {name: environment[name] for name in INHERITED if name in environment}
    known.setdefault("PATH", os.defpath)
    return known
