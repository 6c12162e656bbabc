"""One run of a part: its process, the pipe of what it writes, the pipe by which it says that it serves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass

from services.stack.logfile import LogFile, Output
from services.stack.part import Part
from services.stack.pipe import Pipe

READY_FD = "SAMPAN_READY_FD"
READY_WORD = b"READY\n"
POLL = 0.01
# What a process wrote last arrives a moment after its end; its own children may hold the pipe for longer.
LAST_WORDS = 0.05
# Longer than the notice and the grace of a service that drains.
DRAIN_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its exit code, or the signal that ended it as a negative number."""

    code: int

    def __str__(self) -> str:
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"signal {signal.Signals(-self.code).name}"
        except ValueError:
            return f"signal {-self.code}"


class ReadyWord:
    """Hears the one word by which a part says that it serves; the end of the pipe means: never."""

    def __init__(self) -> None:
        self.said: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._heard = b""

    def heard(self, data: bytes) -> None:
        """Something was written."""
        self._heard += data
        if READY_WORD in self._heard and not self.said.done():
            self.said.set_result(True)

    def ended(self) -> None:
        """Nobody holds the pipe any more."""
        if not self.said.done():
            self.said.set_result(False)


class Run:
    """A process of a part from its start to its end."""

    def __init__(
        self,
        part: Part,
        process: asyncio.subprocess.Process,
        output: Output,
        pipes: list[Pipe],
        said: asyncio.Future[bool] | None,
    ) -> None:
        self.part = part
        self.process = process
        self.born = asyncio.get_running_loop().time()
        self._output = output
        self._pipes = pipes
        self._said = said

    @property
    def uptime(self) -> float:
        return asyncio.get_running_loop().time() - self.born

    async def ended(self) -> Exit:
        """Waits for the end, and for what was written just before it."""
        code = await self.process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._output.closed.wait()
        return Exit(code)

    async def became_ready(self) -> bool:
        """False when the process ends, or does not serve, before its time is up."""
        ended = asyncio.ensure_future(self.process.wait())
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
        if self._said is not None:
            # Shielded: cancelling this wait must not cancel what the pipe still has to say.
            return await asyncio.shield(self._said)
        while self.part.ready is not None and not await self.part.ready():
            await asyncio.sleep(POLL)
        return True

    async def why_not_ready(self) -> str:
        """Ends what is left of a process that did not come up, and says what happened."""
        gave_up = self._said is not None and self._said.done() and not self._said.result()
        try:
            # A part that closed its pipe is about to end by itself; its exit code tells more than ours.
            async with asyncio.timeout(1.0 if gave_up else LAST_WORDS * 2):
                end = await self.ended()
        except TimeoutError:
            await self.stop()
            return f"not ready within {self.part.start_timeout:.0f} s"
        return f"ended at its start with {end}"

    async def stop(self) -> bool:
        """Asks, waits, then insists. Returns whether asking was enough; the process is gone either way."""
        return await self._end(self.part.stop_signal, self.part.stop_timeout)

    async def drain(self) -> bool:
        """As `stop`, but others go on meanwhile: a service gives notice, and time to what it has begun."""
        return await self._end(signal.SIGTERM, DRAIN_TIMEOUT)

    async def _end(self, number: signal.Signals, patience: float) -> bool:
        willing = True
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
            try:
                async with asyncio.timeout(patience):
                    await self.process.wait()
            except TimeoutError:
                willing = False
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
            await self.ended()
        self.close()
        return willing

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()


async def spawn(part: Part, log: LogFile) -> Run:
    """Prepares and starts a part. Call it in the main thread: death signals come when the starter ends."""
    await asyncio.to_thread(part.prepare)
    output = Output(log)
    reading, output_end = os.pipe()
    pipes = [Pipe(reading, output)]
    said: asyncio.Future[bool] | None = None
    environment = dict(part.environment)
    passed: list[int] = []
    if part.announces:
        reading, ready_end = os.pipe()
        ready = ReadyWord()
        said = ready.said
        pipes.append(Pipe(reading, ready))
        environment[READY_FD] = str(ready_end)
        passed.append(ready_end)
    try:
        process = await asyncio.create_subprocess_exec(
            *part.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output_end,
            stderr=output_end,
            cwd=part.folder,
            env=environment,
            pass_fds=passed,
            # Ctrl-C at the terminal is for the supervisor, which stops the parts in order.
            start_new_session=True,
        )
    except BaseException:
        for pipe in pipes:
            pipe.close()
        raise
    finally:
        for descriptor in (output_end, *passed):
            os.close(descriptor)
    return Run(part, process, output, pipes, said)
