"""CPU time and memory of processes, by group: a part of the stack, or a server that a benchmark runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import psutil

from services.stack.bench.statistics import Usage

_NOT_THERE = (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied)


class Meter:
    """Groups of processes, each a root with all its descendants; `alone` leaves the descendants out."""

    def __init__(self) -> None:
        self._roots: dict[str, tuple[int, bool]] = {}

    def add(self, name: str, pid: int, *, alone: bool = False) -> None:
        """Names a group."""
        self._roots[name] = (pid, alone)

    @property
    def names(self) -> tuple[str, ...]:
        """All groups."""
        return tuple(self._roots)

    def cpu(self, names: Iterable[str]) -> dict[str, float]:
        """CPU seconds so far, user and system, by group."""
        return {name: sum(_cpu(process) for process in self._processes(name)) for name in names}

    def pss(self, names: Iterable[str]) -> dict[str, int]:
        """Memory in bytes by group: proportional shares, where the system tells them."""
        return {name: sum(_pss(process) for process in self._processes(name)) for name in names}

    def usage(self, before: Mapping[str, float]) -> tuple[Usage, ...]:
        """What groups took since `before`, which is an answer of `cpu`."""
        now, memory = self.cpu(before), self.pss(before)
        return tuple(Usage(name, now[name] - before[name], memory[name]) for name in before)

    def _processes(self, name: str) -> Iterator[psutil.Process]:
        pid, alone = self._roots[name]
        with contextlib.suppress(*_NOT_THERE):
            root = psutil.Process(pid)
            yield root
            if not alone:
                yield from root.children(recursive=True)


def _cpu(process: psutil.Process) -> float:
    with contextlib.suppress(*_NOT_THERE):
        times = process.cpu_times()
        return times.user + times.system
    return 0.0


def _pss(process: psutil.Process) -> int:
    with contextlib.suppress(*_NOT_THERE):
        memory = process.memory_full_info()
        # Linux tells proportional shares; elsewhere what is the process's own comes nearest.
        return int(getattr(memory, "pss", memory.uss))
    return 0
