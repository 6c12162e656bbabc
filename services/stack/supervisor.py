"""Starts parts in stages, keeps them alive, stops them in reverse. Idle, it only waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from services.stack.child import Child
from services.stack.errors import StackError
from services.stack.home import READY, STARTING, STOPPED, STOPPING, Home, Running, State
from services.stack.logfile import Journal, LogFile
from services.stack.part import Part

LIVENESS_PERIOD = 5.0
LIVENESS_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a start: what, how long it took in ms, and where it listens."""

    part: str
    milliseconds: int
    detail: str = ""


Report = Callable[[Progress], None]


class Supervisor:
    """Runs the parts of one home. The caller holds the home's lock."""

    def __init__(self, home: Home, state: State, report: Report) -> None:
        self.home = home
        self.state = state
        self.report = report
        self.journal = Journal(LogFile(home.logs / "supervisor.log"))
        self.children: dict[str, Child] = {}
        self._keepers: list[asyncio.Task[None]] = []

    def opened(self, edge: str, pid: int) -> None:
        """Records that this process now runs the home."""
        self.state.phase = STARTING
        self.state.edge = edge
        self.state.supervisor = Running(pid, psutil.Process(pid).create_time())
        self._save()
        self.journal.note("starting", "supervisor", pid=pid, edge=edge)

    async def start(self, part: Part, detail: str = "") -> None:
        """Starts one part and from then on keeps it alive."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        child = Child(part, LogFile(self.home.logs / f"{part.name}.log"), self.journal, self._remember)
        self.children[part.name] = child
        try:
            await child.start()
        except OSError as error:
            raise StackError(part.name, f"{part.command[0]} cannot be started: {error.strerror}") from None
        milliseconds = round((clock() - begun) * 1000)
        self.journal.note("started", part.name, pid=child.pid, ms=milliseconds)
        self._keepers.append(asyncio.create_task(child.keep(), name=f"keep {part.name}"))
        if part.alive is not None:
            self._keepers.append(asyncio.create_task(self._watch(part), name=f"watch {part.name}"))
        self.report(Progress(part.name, milliseconds, detail))

    async def start_all(self, parts: Iterable[tuple[Part, str]]) -> None:
        """Starts several at once; the first failure stops waiting for the others."""
        await together(self.start(part, detail) for part, detail in parts)

    def ready(self) -> None:
        self.state.phase = READY
        self._save()
        self.journal.note("ready", "supervisor", edge=self.state.edge)

    async def run(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set, and raises when a keeper fails, which would leave a part alone."""
        stopping = asyncio.ensure_future(stop.wait())
        done, _ = await asyncio.wait({stopping, *self._keepers}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in done - {stopping}:
            task.result()

    def tend(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Runs something else for as long as the stack is up."""
        self._keepers.append(asyncio.create_task(work, name=name))

    async def replace(self, names: Iterable[str], reason: str) -> None:
        """Gives parts new processes, one part after another."""
        for name in names:
            self.journal.note("replacing", name, reason=reason)
            await self.children[name].replace()

    async def stop(self, stages: Iterable[Iterable[str]]) -> None:
        """Stops stage after stage, the parts of a stage at once; what is in no stage goes last."""
        self.state.phase = STOPPING
        self._save()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for stage in (*stages, tuple(self.children)):
            chosen = [self.children[name] for name in stage if name in self.children]
            await asyncio.gather(*(child.stop() for child in chosen))
        self.state.phase = STOPPED
        self.state.parts = {}
        self.state.supervisor = None
        self._save()
        self.journal.note("stopped", "supervisor")
        self.journal.log.close()

    def _remember(self, name: str, pid: int) -> None:
        try:
            started = psutil.Process(pid).create_time()
            self.state.parts[name] = Running(pid, started, self.children[name].restarts)
        except psutil.NoSuchProcess:
            self.state.parts.pop(name, None)
        self._save()

    def _save(self) -> None:
        """What runs must not stop for a full disk; a stale state only makes the next start look harder."""
        try:
            self.home.save_state(self.state)
        except OSError as error:
            self.journal.note("state not saved", "supervisor", reason=str(error))

    async def _watch(self, part: Part) -> None:
        """Tells of a server that runs but does not answer. It is not killed: it may be busy recovering."""
        failures = 0
        while True:
            await asyncio.sleep(LIVENESS_PERIOD)
            if not self.children[part.name].serving.is_set() or part.alive is None:
                continue
            if await part.alive():
                if failures >= LIVENESS_FAILURES:
                    self.journal.note("answers again", part.name)
                failures = 0
                continue
            failures += 1
            if failures == LIVENESS_FAILURES:
                self.journal.note("does not answer", part.name, probes=failures, period_s=LIVENESS_PERIOD)


async def together(work: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Runs coroutines at once; raises the first failure itself, not a group of them, when all have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            for item in work:
                group.create_task(item)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def is_same(process: Running) -> psutil.Process | None:
    """The process that was recorded, if it is still that one."""
    try:
        found = psutil.Process(process.pid)
        if abs(found.create_time() - process.started) < 0.05 and found.status() != psutil.STATUS_ZOMBIE:
            return found
    except psutil.NoSuchProcess:
        return None
    return None


async def end_leftovers(parts: Mapping[str, Running], patience: float = 5.0) -> list[str]:
    """Ends what a killed supervisor left behind; most of it has died with its parent."""
    found = {name: process for name, running in parts.items() if (process := is_same(running))}
    for process in found.values():
        ask_to_end(process)
    deadline = asyncio.get_running_loop().time() + patience
    while any(process.is_running() and not is_zombie(process) for process in found.values()):
        if asyncio.get_running_loop().time() > deadline:
            for process in found.values():
                if process.is_running():
                    process.kill()
        await asyncio.sleep(0.02)
    return sorted(found)


def ask_to_end(process: psutil.Process) -> None:
    try:
        # For PostgreSQL SIGTERM waits for its clients; SIGINT does not.
        process.send_signal(2 if process.name() == "postgres" else 15)
    except psutil.NoSuchProcess:
        return


def is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
