"""One part under supervision: started, kept running, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.stack.backoff import Backoff
from services.stack.errors import StackError
from services.stack.logfile import Journal, LogFile
from services.stack.part import Part
from services.stack.spawn import Exit, Run, spawn


class Child:
    """Keeps one part running. `started` is called with name and pid each time there is a new process."""

    def __init__(
        self,
        part: Part,
        log: LogFile,
        journal: Journal,
        started: Callable[[str, int], None],
        backoff: Backoff | None = None,
    ) -> None:
        self.part = part
        self.log = log
        self.journal = journal
        self.restarts = 0
        # Set while the part serves.
        self.serving = asyncio.Event()
        self._started = started
        self._backoff = backoff or Backoff()
        self._run: Run | None = None
        # When this run began to serve, if it has.
        self._serves_since: float | None = None

    @property
    def pid(self) -> int:
        return self._run.process.pid if self._run else 0

    async def start(self) -> None:
        """The first start: returns when the part serves, raises with the reason when it does not."""
        for left in reversed(range(self.part.attempts)):
            run = await self._spawn()
            if await run.became_ready():
                self._serves()
                return
            reason = await run.why_not_ready()
            if not left:
                raise StackError(
                    self.part.name, reason + self._last_lines(), f"The whole log: {self.log.path}"
                )
            delay = self._backoff.failed()
            self.journal.note("start failed", self.part.name, reason=reason, next_try_ms=round(delay * 1000))
            await asyncio.sleep(delay)

    async def keep(self) -> None:
        """Runs until cancelled: waits for the end of the process, says why, starts it again."""
        while self._run is not None:
            end = await self._run.ended()
            uptime = self._run.uptime
            self.serving.clear()
            delay = self._wait()
            self._note_death(end, uptime, delay)
            await asyncio.sleep(delay)
            while not await self._restarted():
                await asyncio.sleep(self._backoff.failed())

    async def _restarted(self) -> bool:
        """Whether there is a new process; whether it stays is for `keep` to see."""
        self.restarts += 1
        try:
            run = await self._spawn()
        except (OSError, StackError) as error:
            self.journal.note("restart failed", self.part.name, reason=str(error))
            return False
        if await run.became_ready():
            self._serves()
            self.journal.note("restarted", self.part.name, pid=self.pid, restarts=self.restarts)
        else:
            reason = await run.why_not_ready()
            self.journal.note("restart failed", self.part.name, pid=self.pid, reason=reason)
        return True

    async def replace(self) -> None:
        """Lets the process drain and returns when `keep` has brought up the next."""
        if self._run is not None:
            self.serving.clear()
            await self._run.drain()
            await self.serving.wait()

    async def stop(self) -> None:
        """Returns when the process is gone."""
        self.serving.clear()
        if self._run is not None and not await self._run.stop():
            waited = f"still there {self.part.stop_timeout:.0f} s after {self.part.stop_signal.name}"
            self.journal.note("killed", self.part.name, pid=self.pid, reason=waited)

    def _serves(self) -> None:
        self._serves_since = asyncio.get_running_loop().time()
        self.serving.set()

    def _wait(self) -> float:
        """Seconds until the next start after the end of this run."""
        if self._serves_since is None:
            return self._backoff.failed()
        return self._backoff.served(asyncio.get_running_loop().time() - self._serves_since)

    async def _spawn(self) -> Run:
        if self._run is not None:
            self._run.close()
        self._serves_since = None
        self._run = await spawn(self.part, self.log)
        self._started(self.part.name, self._run.process.pid)
        return self._run

    def _note_death(self, end: Exit, uptime: float, delay: float) -> None:
        self.journal.note(
            "died",
            self.part.name,
            pid=self.pid,
            reason=str(end),
            uptime_s=round(uptime, 3),
            restart_in_ms=round(delay * 1000),
            last_lines=self.log.tail(),
        )

    def _last_lines(self) -> str:
        tail = self.log.tail()
        return "; last lines of its log:\n    " + "\n    ".join(tail) if tail else ""
