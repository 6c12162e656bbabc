"""Runs a stack in this terminal, or in the background with the caller told how it goes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import IO, NoReturn

from services.stack.errors import StackError
from services.stack.home import READY, Home, HomeLock, State
from services.stack.supervisor import Progress

Tell = Callable[[Mapping[str, object]], None]

# How long to wait for another caller's start, or stop, of the same home.
PATIENCE = 90.0
POLL = 0.05


async def run_stack(
    home: Home, environment: Mapping[str, str], tell: Tell, *, detached: bool, servers_only: bool = False
) -> None:
    """Runs until told to stop. `tell` hears of each step, then of `ready`."""
    from services.stack.stack import Stack, stop_on_signals

    stop = asyncio.Event()
    stop_on_signals(stop, detached=detached)

    def report(step: Progress) -> None:
        tell(asdict(step))

    def when_ready(step: Progress) -> None:
        tell({"ready": step.detail, "milliseconds": step.milliseconds})

    await Stack(home, environment, report, servers_only=servers_only).run(stop, when_ready)


def in_foreground(
    home: Home, environment: Mapping[str, str], tell: Tell, *, servers_only: bool = False
) -> bool:
    """Blocks until Ctrl-C. Returns whether the stack became ready. The caller holds the home's lock."""
    ready = False

    def listen(message: Mapping[str, object]) -> None:
        nonlocal ready
        ready = ready or "ready" in message
        tell(message)

    os.umask(0o077)
    asyncio.run(run_stack(home, environment, listen, detached=False, servers_only=servers_only))
    return ready


def in_background(
    home: Home, environment: Mapping[str, str], lock: HomeLock, tell: Tell, *, servers_only: bool = False
) -> None:
    """Returns when all is healthy; raises StackError when it is not, with everything stopped."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        become_daemon(home, environment, lock, writing, servers_only=servers_only)
    os.close(writing)
    lock.release()
    os.waitpid(child, 0)
    with os.fdopen(reading) as messages:
        relay(messages, home, tell)


def relay(messages: IO[str], home: Home, tell: Tell) -> None:
    """Passes on what the background process says, until it is ready or gone."""
    pid = 0
    ready = False
    try:
        for line in messages:
            message = json.loads(line)
            if "error" in message:
                raise StackError(**message["error"])
            pid = message.get("pid", pid)
            ready = ready or "ready" in message
            tell(message)
    except KeyboardInterrupt:
        if pid and not ready:
            os.kill(pid, signal.SIGTERM)
            messages.read()
        raise
    if not ready:
        raise StackError("supervisor", "ended without a word", f"See {home.logs / 'supervisor.err'}")


def become_daemon(
    home: Home, environment: Mapping[str, str], lock: HomeLock, writing: int, *, servers_only: bool
) -> NoReturn:
    """The rest of the background process's life. It keeps nothing of its caller: session, stdio, files."""
    code = 1
    try:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        os.umask(0o077)
        keep_only(home, lock.descriptor, writing)
        code = run_and_tell(home, environment, Messages(writing), servers_only=servers_only)
    except BaseException:  # the interpreter's own report would come after its exit
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


class Messages:
    """The pipe to the caller: one JSON object a line, until it is ready or the caller has gone away."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def tell(self, message: Mapping[str, object]) -> None:
        if self.descriptor < 0:
            return
        try:
            os.write(self.descriptor, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            # The stack that it asked for stays.
            self.close()
        if "ready" in message:
            self.close()

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def keep_only(home: Home, *wanted: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    errors = os.open(home.logs / "supervisor.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for source, target in ((nothing, 0), (nothing, 1), (errors, 2)):
        os.dup2(source, target)
    low = 3
    for descriptor in (*sorted(wanted), os.sysconf("SC_OPEN_MAX")):
        os.closerange(low, descriptor)
        low = descriptor + 1


def run_and_tell(
    home: Home, environment: Mapping[str, str], messages: Messages, *, servers_only: bool
) -> int:
    messages.tell({"pid": os.getpid()})
    try:
        asyncio.run(run_stack(home, environment, messages.tell, detached=True, servers_only=servers_only))
    except StackError as error:
        messages.tell({"error": {"part": error.part, "reason": error.reason, "hint": error.hint}})
        return 1
    except Exception as error:
        messages.tell({"error": {"part": "supervisor", "reason": f"{type(error).__name__}: {error}"}})
        raise
    return 0


async def wait_until_settled(home: Home) -> State | None:
    """The state of another's stack once it is ready; None once nobody holds the home any more."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while home.held():
        state = home.load_state()
        if state.phase == READY:
            return state
        if asyncio.get_running_loop().time() > deadline:
            hint = "See `sampan logs supervisor`, or stop it: ./scripts/down"
            raise StackError("supervisor", f"another start or stop hangs ({state.phase})", hint)
        await asyncio.sleep(POLL)
    return None
