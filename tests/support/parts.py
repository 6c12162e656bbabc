"""Hurts the parts of a private stack: kill, hang, go on; and knows when they are back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator

import httpx
import psutil

from services.stack.supervisor import is_same
from services.stack.topology import EDGE, PROCESSES, SERVERS
from tests.support import http as plain
from tests.support.stack import Stack
from tests.support.waiting import until

ALL = (*SERVERS, EDGE, *(process.name for process in PROCESSES))


def pid_of(stack: Stack, part: str) -> int:
    """The process of a part by now."""
    return stack.state.parts[part].pid


def kill(stack: Stack, part: str) -> int:
    """kill -9; returns the pid that is no more."""
    pid = pid_of(stack, part)
    os.kill(pid, signal.SIGKILL)
    return pid


def stop(stack: Stack, part: str) -> int:
    """SIGTERM, at which a part finishes what it does; returns the pid that will be no more."""
    pid = pid_of(stack, part)
    os.kill(pid, signal.SIGTERM)
    return pid


async def another(stack: Stack, part: str, pid: int, *, within: float = 30) -> int:
    """Waits until a part runs in another process than `pid`; returns that."""

    found = pid

    async def is_another() -> bool:
        nonlocal found
        # A start that failed at once leaves none for a moment: what the killed one held may not be free yet.
        running = stack.state.parts.get(part)
        found = pid if running is None else running.pid
        return found != pid and psutil.pid_exists(found)

    await until(is_another, True, within=within)
    return found


async def well(stack: Stack, *, within: float = 30) -> float:
    """Waits until the stack says that all of it is well; returns the seconds it took."""
    async with plain.client(base_url=stack.url, timeout=5) as http:

        async def health() -> int:
            try:
                return (await http.get("/healthz")).status_code
            except httpx.TransportError:
                return 0

        return await until(health, 200, within=within)


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


@contextlib.asynccontextmanager
async def dead(stack: Stack, part: str) -> AsyncIterator[None]:
    """While the block runs, a part is killed as often as it is started: nobody listens at its port."""
    killing = asyncio.create_task(_kill_always(stack, part))
    try:
        yield
    finally:
        killing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killing


async def _kill_always(stack: Stack, part: str) -> None:
    while True:
        running = stack.state.parts.get(part)
        found = is_same(running) if running else None
        if found is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.kill()
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def away(stack: Stack, part: str, how: str) -> AsyncIterator[None]:
    """While the block runs, a part is `hanging` or `dead`."""
    if how == "hanging":
        with hanging(stack, part):
            yield
    else:
        async with dead(stack, part):
            yield
