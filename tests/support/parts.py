"""Kills, stops and freezes parts of a private stack by their names, and waits until they are back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from services.stack.topology import EDGE, PROCESSES, SERVERS
from tests.support.stack import Stack

# Every part of a stack that its supervisor keeps alive.
PARTS = (*SERVERS, EDGE, *(process.name for process in PROCESSES))


class Parts:
    """The parts of one stack. What dies is started again by its supervisor."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def pid(self, name: str) -> int:
        """The process that a part runs in now, as its supervisor says."""
        return self._stack.state.parts[name].pid

    def kill(self, name: str) -> int:
        """kill -9; returns the pid that was."""
        return self._signal(name, signal.SIGKILL)

    def stop(self, name: str) -> int:
        """SIGTERM, at which it finishes what it does; returns the pid that was."""
        return self._signal(name, signal.SIGTERM)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """SIGSTOP to a part and all its children for the block, then SIGCONT."""
        frozen = [self.pid(name), *_descendants(self.pid(name))]
        try:
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in frozen:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    async def until_another(self, name: str, pid: int, *, within: float = 15) -> int:
        """Waits until a part runs in another process than `pid`; returns that."""
        started = time.monotonic()
        while (now := self.pid(name)) == pid or not _lives(now):
            _in_time(started, within, f"{name} is not started again")
            await asyncio.sleep(0.02)
        return now

    async def until_well(self, *, within: float = 15) -> float:
        """Waits until the stack says that all of it is well; returns the seconds it took."""
        started = time.monotonic()
        async with httpx.AsyncClient(base_url=self._stack.url, timeout=5) as http:
            while True:
                with suppress(httpx.TransportError):
                    if (await http.get("/healthz")).status_code == 200:
                        return time.monotonic() - started
                _in_time(started, within, "the stack is not well")
                await asyncio.sleep(0.05)

    def _signal(self, name: str, number: int) -> int:
        pid = self.pid(name)
        os.kill(pid, number)
        return pid


def _in_time(started: float, within: float, complaint: str) -> None:
    if time.monotonic() - started > within:
        raise AssertionError(f"{complaint} after {within} s")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _descendants(pid: int) -> list[int]:
    """All processes below one, nearest first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name in parentheses may hold anything; what follows are state and parent.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(0), [])
        found += below
        waiting += below
    return found
