"""Hurts the parts of a private stack: kill, hang, go on; and knows when they are back."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import psutil

from services.stack.topology import EDGE, PROCESSES, SERVERS
from tests.support.stack import Stack

ALL = (*SERVERS, EDGE, *(process.name for process in PROCESSES))


def pid_of(stack: Stack, part: str) -> int:
    """The process of a part by now."""
    return stack.state.parts[part].pid


def kill(stack: Stack, part: str) -> int:
    """kill -9; returns the pid that is no more."""
    pid = pid_of(stack, part)
    os.kill(pid, signal.SIGKILL)
    return pid


def _family(pid: int) -> list[psutil.Process]:
    """A process and all that it started: PostgreSQL has one for each connection."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


@contextlib.contextmanager
def hanging(stack: Stack, part: str) -> Iterator[None]:
    """While the block runs, a part takes connections and answers nothing: worse than being gone."""
    family = _family(pid_of(stack, part))
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
