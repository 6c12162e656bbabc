"""Named places in the code where tests make a process die, fail or wait. Nothing happens unless armed.

SAMPAN_FAULTS names a folder. A point that has a file `<point>.json` there is armed:

    {"do": "kill", "times": 1, "skip": 0, "seconds": 0.0}

`do` is kill (SIGKILL to this process), raise (FaultRaised), delay (`seconds`), hang (until cancelled) or
close_connection (closes what the point offers, then goes on). The first `skip` passes go by, the next `times`
fire. Passes are counted in the file, under a lock, so that a count holds over restarts and over processes,
and a test can fail when its point never fired.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Close = Callable[[], Awaitable[None]]

_folder: Path | None = None


class FaultRaised(Exception):
    """What a point raises when it is told to."""


@dataclass(slots=True)
class Fault:
    """What a point does, and how often it was passed and did it. `seconds` is for `delay`."""

    do: Literal["kill", "raise", "delay", "hang", "close_connection"]
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    passed: int = 0
    fired: int = 0


def use(folder: Path | None) -> None:
    """Tells this process where its faults are armed; None: nowhere."""
    global _folder  # noqa: PLW0603 - points stand anywhere, so what they read cannot be handed to them
    _folder = folder


async def point(name: str, close: Close | None = None) -> None:
    """A place where a test may step in. `close` closes the connection that is in use there."""
    if _folder is not None:
        await _pass(_folder / f"{name}.json", close)


def arm(folder: Path, name: str, fault: Fault) -> None:
    """Arms a point, for all processes that use the folder."""
    made = folder / f"{name}.{os.getpid()}.new"
    made.write_text(json.dumps(asdict(fault)))
    made.replace(folder / f"{name}.json")


def read(folder: Path, name: str) -> Fault:
    """A point as it was armed, with its counts."""
    return Fault(**json.loads((folder / f"{name}.json").read_text()))


async def _pass(file: Path, close: Close | None) -> None:
    fault = _count(file)
    if fault is None:
        return
    match fault.do:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise FaultRaised(file.stem)
        case "delay":
            await asyncio.sleep(fault.seconds)
        case "hang":
            await asyncio.Event().wait()
        case "close_connection":
            if close is None:
                raise FaultRaised(f"{file.stem} offers no connection to close")
            await close()


def _count(file: Path) -> Fault | None:
    """Counts a pass; the fault, when this pass fires. Written first: a kill leaves no other time."""
    try:
        opened = file.open("r+")
    except FileNotFoundError:
        return None
    with opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        fault = Fault(**json.load(opened))
        fault.passed += 1
        fires = fault.passed > fault.skip and fault.fired < fault.times
        fault.fired += fires
        opened.seek(0)
        opened.write(json.dumps(asdict(fault)))
        opened.truncate()
    return fault if fires else None
