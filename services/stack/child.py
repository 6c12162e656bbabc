"""One process under supervision: started, watched, started again when it dies, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from services.stack.backoff import Backoff
from services.stack.errors import StackError
from services.stack.logfile import Journal, LogFile, LogPipe
from services.stack.part import Part

READY_WORD = b"READY\n"
POLL = 0.01


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended."""

    code: int

    def __str__(self) -> str:
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"signal {signal.Signals(-self.code).name}"
        except ValueError:
            return f"signal {-self.code}"


class ReadyPipe(asyncio.Protocol):
    """Reads the one word by which a part says that it serves; the end of the pipe means that it never will."""

    def __init__(self) -> None:
        self.said: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._heard = b""

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if READY_WORD in self._heard and not self.said.done():
            self.said.set_result(True)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.said.done():
            self.said.set_result(False)


class Child:
    """Keeps one part running. `started` is called with the pid each time there is a new process."""

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
        self.started = started
        self.backoff = backoff or Backoff()
        self.restarts = 0
        self.serving = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._said: asyncio.Future[bool] | None = None
        self._pipes: list[asyncio.ReadTransport] = []
        self._born = 0.0

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """The first start: returns when the part serves, raises with the reason when it does not."""
        for attempt in range(1, self.part.attempts + 1):
            await self._spawn()
            if await self._became_ready():
                self.serving.set()
                return
            reason = await self._failure()
            if attempt == self.part.attempts:
                raise StackError(self.part.name, reason, f"The whole log: {self.log.path}")
            delay = self.backoff.after(0.0)
            self.journal.note("start failed", self.part.name, reason=reason, next_try_ms=round(delay * 1000))
            await asyncio.sleep(delay)

    async def keep(self) -> None:
        """Runs until cancelled: waits for the end of the process, says why, starts it again."""
        while True:
            process = self._process
            assert process is not None
            code = await process.wait()
            self.serving.clear()
            uptime = asyncio.get_running_loop().time() - self._born
            delay = self.backoff.after(uptime)
            self._note_death(Exit(code), uptime, delay)
            await asyncio.sleep(delay)
            await self._restart()

    async def _restart(self) -> None:
        self.restarts += 1
        try:
            await self._spawn()
            if await self._became_ready():
                self.serving.set()
                self.journal.note("restarted", self.part.name, pid=self.pid, restarts=self.restarts)
            else:
                await self._failure()
        except (OSError, StackError) as error:
            # The process that ended is still the last one: `keep` will find it dead and try again, later.
            self._born = asyncio.get_running_loop().time()
            self.journal.note("restart failed", self.part.name, reason=str(error))

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

    async def _spawn(self) -> None:
        await asyncio.to_thread(self.part.prepare)
        self._close_pipes()
        loop = asyncio.get_running_loop()
        output, output_end = os.pipe()
        self._pipes.append(await self._read(output, LogPipe(self.log)))
        passed: list[int] = []
        environment = dict(self.part.environment)
        if self.part.announces:
            ready, ready_end = os.pipe()
            protocol = ReadyPipe()
            self._said = protocol.said
            self._pipes.append(await self._read(ready, protocol))
            environment["SAMPAN_READY_FD"] = str(ready_end)
            passed.append(ready_end)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output_end,
                stderr=output_end,
                cwd=self.part.folder,
                env=environment,
                pass_fds=passed,
                # Ctrl-C at the terminal is for the supervisor, which stops the parts in order.
                start_new_session=True,
            )
        finally:
            for descriptor in (output_end, *passed):
                os.close(descriptor)
        self._born = loop.time()
        self.started(self.part.name, self._process.pid)

    async def _read(self, descriptor: int, protocol: asyncio.Protocol) -> asyncio.ReadTransport:
        file = os.fdopen(descriptor, "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, file)
        return transport

    def _close_pipes(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()

    async def _became_ready(self) -> bool:
        """False when the process ends, or says nothing, before its time is up."""
        assert self._process is not None
        ended = asyncio.ensure_future(self._process.wait())
        asked = asyncio.ensure_future(self._ask_until_ready())
        try:
            await asyncio.wait(
                {ended, asked}, timeout=self.part.start_timeout, return_when=asyncio.FIRST_COMPLETED
            )
            return asked.done() and asked.result() and not ended.done()
        finally:
            for waiting in (ended, asked):
                waiting.cancel()

    async def _ask_until_ready(self) -> bool:
        if self.part.announces and self._said is not None:
            # Shielded: cancelling the wait must not touch the pipe's own future.
            return await asyncio.shield(self._said)
        while self.part.ready is not None and not await self.part.ready():
            await asyncio.sleep(POLL)
        return True

    async def _failure(self) -> str:
        """Why the part did not come up; whatever is left of it is ended."""
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            # A part that says it failed is about to end by itself, and its exit code tells more than ours.
            await asyncio.wait_for(self._process.wait(), 1.0 if self._gave_up() else 0.05)
        if self._process.returncode is None:
            reason = f"not ready within {self.part.start_timeout:.0f} s"
            await self.stop()
        else:
            reason = f"ended at its start with {Exit(self._process.returncode)}"
        tail = self.log.tail()
        return reason + ("; last lines of its log:\n    " + "\n    ".join(tail) if tail else "")

    def _gave_up(self) -> bool:
        return self._said is not None and self._said.done() and not self._said.result()

    async def stop(self) -> None:
        """Asks, waits, then insists; returns when the process is gone."""
        process = self._process
        self.serving.clear()
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.part.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), self.part.stop_timeout)
            except TimeoutError:
                waited = self.part.stop_timeout
                self.journal.note(
                    "killed", self.part.name, pid=process.pid, reason=f"still there after {waited} s"
                )
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        self._close_pipes()
