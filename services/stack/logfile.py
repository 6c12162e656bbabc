"""Bounded logs: what a part writes goes through a pipe to a file that is turned over by size."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

LIMIT = 10 * 1024 * 1024
TAIL_BYTES = 4096
LINE = 400


class LogFile:
    """Appends to `path`; past `limit` bytes the file becomes `<path>.1` and a new one begins."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self.path = path
        self.limit = limit
        self._descriptor = -1
        self._size = 0
        self._tail: deque[bytes] = deque()
        self._tail_size = 0

    def write(self, data: bytes) -> None:
        self._remember(data)
        # A full disk must not take down what is being logged about.
        with contextlib.suppress(OSError):
            if self._descriptor < 0:
                self._open()
            if self._size and self._size + len(data) > self.limit:
                self._turn_over()
            self._size += os.write(self._descriptor, data)

    def tail(self, lines: int = 5) -> list[str]:
        """The last lines written since this start."""
        text = b"".join(self._tail).decode(errors="replace")
        return [line[:LINE] for line in text.splitlines() if line.strip()][-lines:]

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _turn_over(self) -> None:
        self.close()
        self.path.replace(self.path.with_name(self.path.name + ".1"))
        self._open()

    def _remember(self, data: bytes) -> None:
        self._tail.append(data[-TAIL_BYTES:])
        self._tail_size += len(self._tail[-1])
        while self._tail_size - len(self._tail[0]) >= TAIL_BYTES:
            self._tail_size -= len(self._tail.popleft())


class Output:
    """Carries what a child writes into its log; no work while the child is silent."""

    def __init__(self, log: LogFile) -> None:
        self.log = log
        self.closed = asyncio.Event()

    def heard(self, data: bytes) -> None:
        """Something was written."""
        self.log.write(data)

    def ended(self) -> None:
        """The child and its own children have ended."""
        self.closed.set()


class Journal:
    """The supervisor's own log: one JSON object a line."""

    def __init__(self, log: LogFile) -> None:
        self.log = log

    def note(self, event: str, part: str, **facts: object) -> None:
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": moment, "event": event, "part": part, **facts}, default=str)
        self.log.write(line.encode() + b"\n")
