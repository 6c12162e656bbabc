"""Processes that a benchmark starts for itself, all of them ended with it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from services.stack import binaries
from services.stack.bench.loader import encoded
from services.stack.bench.statistics import Round
from services.stack.bench.wire import Target
from services.stack.errors import StackError
from services.stack.home import Home
from services.stack.paths import ROOT
from services.stack.service_parts import bytecode_cache

# Seconds in which a process must end when it is told to.
PATIENCE = 20.0


class Processes:
    """Starts processes and ends them, the last first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Starts one, which ends with us, even by kill -9. What it says on stderr goes to a file.

        Call it in the main thread: the kernel takes the end of the thread that starts for ours.
        """
        own = {"PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", "GRPC_VERBOSITY": "ERROR"}
        given = os.environ | own | dict(environment or {})
        with (self._folder / f"{name}.err").open("w") as errors:
            process = subprocess.Popen(
                (*binaries.dies_with_parent(), *command),
                # An empty variable stands for one that is not there.
                env={name: value for name, value in given.items() if value},
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def python(
        self, name: str, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Starts one of our own modules."""
        cache = {"PYTHONPYCACHEPREFIX": str(bytecode_cache(Home(self._folder)))}
        return self.start(name, (sys.executable, "-m", module, *arguments), cache | dict(environment or {}))

    def line(self, name: str, process: subprocess.Popen[str]) -> str:
        """The next line that a process says. Raises StackError with its last words when it ends instead."""
        line = _pipe(process.stdout).readline()
        if not line:
            said = (self._folder / f"{name}.err").read_text().strip().splitlines()[-5:]
            raise StackError("bench", f"{name} ended: " + " ".join(said), "Try again; see the line above.")
        return line.strip()

    def stop(self) -> None:
        """Ends all."""
        for process in reversed(self._started):
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


class LoaderProcess:
    """The load generator, asked for one round at a time."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._process = processes.python("loader", "services.stack.bench.loader")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def run(self, target: Target, *, seconds: float, connections: int, in_flight: int) -> tuple[Round, bytes]:
        """One round and the first answer ever got. Raises StackError when the load could not be put on."""
        return self.round(
            "run", {"target": target}, seconds=seconds, connections=connections, in_flight=in_flight
        )

    def round(self, what: str, targets: Mapping[str, Target], **how: float) -> tuple[Round, bytes]:
        """One round of any kind that the loader knows."""
        answer = self._ask(what, targets, how)
        return Round(**answer["round"]), base64.b64decode(answer["sample"])

    def hold(self, what: str, target: Target, **how: float) -> int:
        """Opens streams that stay; how many did."""
        return int(self._ask(what, {"target": target}, how)["count"])

    def release(self, target: Target) -> None:
        """Closes the streams of a target."""
        self._ask("release", {}, {"name": target.name})

    def _ask(self, what: str, targets: Mapping[str, Target], how: Mapping[str, object]) -> dict[str, Any]:
        command = {"do": what, **how, **{name: encoded(target) for name, target in targets.items()}}
        pipe = _pipe(self._process.stdin)
        pipe.write(json.dumps(command) + "\n")
        pipe.flush()
        answer: dict[str, Any] = json.loads(self._processes.line("loader", self._process))
        if "error" in answer:
            names = ", ".join(target.name for target in targets.values()) or what
            raise StackError("bench", f"load on {names}: {answer['error']}", "Is its server up?")
        return answer


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise TypeError("the process was started without this pipe")
    return pipe
