"""The supervisor: what dies comes back, what fails says why, what must stop does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.stack.backoff import Backoff
from services.stack.errors import StackError
from services.stack.home import Home, Running, State
from services.stack.logfile import LogFile
from services.stack.part import Part, inherited
from services.stack.pipe import Pipe
from services.stack.spawn import Exit
from services.stack.supervisor import Progress, Supervisor, end_leftovers, is_same

STAYS = "echo READY >/dev/fd/$SAMPAN_READY_FD; exec sleep 60"


def part(script: str, name: str = "part", **changes: Any) -> Part:
    """A part that runs a shell script; its output and its word go where a service's would."""
    made = Part(
        name=name,
        command=("/bin/sh", "-c", script),
        environment=inherited(os.environ),
        folder=Path("/"),
        announces=True,
        attempts=1,
        start_timeout=10,
        stop_timeout=5,
    )
    return replace(made, **changes)


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    home = Home(tmp_path / "home")
    home.prepare()
    made = Supervisor(home, State(), lambda _: None)
    yield made
    await made.stop([])


def journal(supervisor: Supervisor) -> list[dict[str, Any]]:
    path = supervisor.home.logs / "supervisor.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def test_what_never_serves_is_tried_at_doubling_intervals_up_to_a_ceiling() -> None:
    backoff = Backoff(first=0.05, ceiling=2.0)
    delays = [backoff.failed() for _ in range(8)]
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_what_served_comes_back_at_once_however_often_it_dies() -> None:
    backoff = Backoff(first=0.05, ceiling=2.0, young=0.5)
    assert [backoff.served(1.0) for _ in range(30)] == [0.05] * 30


def test_what_dies_of_its_first_calls_does_not_spin() -> None:
    backoff = Backoff(first=0.05, ceiling=2.0, young=0.5)
    assert [backoff.served(served) for served in (0.0, 0.2, 0.45)] == pytest.approx([0.5, 0.3, 0.05])


def test_having_served_makes_failures_before_forgotten() -> None:
    backoff = Backoff(first=0.05, ceiling=2.0)
    for _ in range(5):
        backoff.failed()
    backoff.served(1.0)
    assert backoff.failed() == 0.05


async def test_what_is_killed_comes_back_and_the_journal_says_why(supervisor: Supervisor) -> None:
    await supervisor.start(part(f"echo last words; {STAYS}"))
    child = supervisor.children["part"]
    first = child.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.pid != first and child.serving.is_set())
    death = next(entry for entry in journal(supervisor) if entry["event"] == "died")
    assert (death["part"], death["pid"], death["reason"]) == ("part", first, "signal SIGKILL")
    assert death["last_lines"] == ["last words"]
    assert supervisor.state.parts["part"].pid == child.pid
    assert supervisor.home.load_state().parts["part"].pid == child.pid


async def test_what_keeps_dying_is_tried_at_growing_intervals(supervisor: Supervisor, tmp_path: Path) -> None:
    marker = tmp_path / "broken"
    await supervisor.start(part(f"[ -e '{marker}' ] && exit 7; {STAYS}"))
    marker.touch()
    os.kill(supervisor.children["part"].pid, signal.SIGTERM)
    deaths = lambda: [entry for entry in journal(supervisor) if entry["event"] == "died"]  # noqa: E731
    await until(lambda: len(deaths()) >= 4)
    # The first one served.
    waits = [entry["restart_in_ms"] for entry in deaths()[1:4]]
    assert waits == sorted(set(waits))
    assert deaths()[1]["reason"] == "exit code 7"
    marker.unlink()
    await until(supervisor.children["part"].serving.is_set)


async def test_a_part_that_cannot_start_fails_with_its_last_lines(supervisor: Supervisor) -> None:
    with pytest.raises(StackError) as raised:
        await supervisor.start(part("echo cannot open the thing >&2; exit 3"))
    assert raised.value.part == "part"
    assert "exit code 3" in raised.value.reason
    assert "cannot open the thing" in raised.value.reason
    assert str(supervisor.home.logs / "part.log") in raised.value.hint


async def test_a_part_that_never_serves_is_ended(supervisor: Supervisor) -> None:
    with pytest.raises(StackError, match="not ready within"):
        await supervisor.start(part("exec sleep 60", start_timeout=0.1))
    assert not psutil.pid_exists(supervisor.children["part"].pid)


async def test_a_missing_program_is_named(supervisor: Supervisor) -> None:
    with pytest.raises(StackError, match="/absent/program cannot be started"):
        await supervisor.start(part("", command=("/absent/program",)))


async def test_a_first_start_is_tried_as_often_as_the_part_allows(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    script = f"[ -e '{tmp_path}/once' ] || {{ touch '{tmp_path}/once'; exit 1; }}; {STAYS}"
    await supervisor.start(part(script, attempts=2))
    assert [entry["event"] for entry in journal(supervisor)] == ["start failed", "started"]


async def test_preparation_is_repeated_before_every_start(supervisor: Supervisor) -> None:
    calls: list[int] = []
    await supervisor.start(part(STAYS, prepare=lambda: calls.append(1)))
    os.kill(supervisor.children["part"].pid, signal.SIGKILL)
    await until(lambda: len(calls) == 2)


async def test_what_ignores_its_stop_signal_is_killed(supervisor: Supervisor) -> None:
    await supervisor.start(part(f"trap '' TERM; {STAYS}", stop_timeout=0.1))
    pid = supervisor.children["part"].pid
    await supervisor.stop([["part"]])
    assert not psutil.pid_exists(pid)
    assert "killed" in [entry["event"] for entry in journal(supervisor)]


async def test_stages_are_stopped_in_order(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    made = Supervisor(home, State(), lambda _: None)
    order = tmp_path / "order"
    ready = "echo READY >/dev/fd/$SAMPAN_READY_FD"
    leaves = f"trap 'echo {{0}} >>{{1}}; exit 0' TERM; {ready}; while :; do sleep 0.05; done"
    names = ("first", "second", "third")
    await made.start_all((part(leaves.format(name, order), name), "") for name in names)
    await made.stop([["third"], ["second"]])
    assert order.read_text().split() == ["third", "second", "first"]
    assert home.load_state().parts == {}


class NextOwner:
    """Hears the end of a pipe, and has another file opened under its descriptor at once."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.took = asyncio.Event()

    def heard(self, data: bytes) -> None:
        """Nothing is written."""

    def ended(self) -> None:
        """The descriptor is free."""
        taken = os.open(os.devnull, os.O_RDONLY)
        if taken != self.descriptor:
            os.dup2(taken, self.descriptor)
            os.close(taken)
        self.took.set()


@pytest.mark.parametrize("by_the_writer", [True, False])
async def test_the_descriptor_of_a_pipe_is_closed_once(*, by_the_writer: bool) -> None:
    reading, writing = os.pipe()
    owner = NextOwner(reading)
    pipe = Pipe(reading, owner)
    if by_the_writer:
        os.close(writing)
    else:
        pipe.close()
        os.close(writing)
    async with asyncio.timeout(10):
        await owner.took.wait()
    pipe.close()
    del pipe
    await asyncio.sleep(0)
    os.close(reading)


async def test_progress_is_told_for_each_part(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    steps: list[Progress] = []
    made = Supervisor(home, State(), steps.append)
    await made.start(part(STAYS), "somewhere")
    await made.stop([])
    assert [(step.part, step.detail) for step in steps] == [("part", "somewhere")]


async def test_the_first_failure_of_several_is_the_one_told(supervisor: Supervisor) -> None:
    with pytest.raises(StackError, match="bad: ended at its start"):
        await supervisor.start_all([(part(STAYS, "good"), ""), (part("exit 1", "bad"), "")])


async def test_replacing_gives_a_new_process(supervisor: Supervisor) -> None:
    await supervisor.start(part(STAYS))
    first = supervisor.children["part"].pid
    await supervisor.replace(["part"], "new certificates")
    assert supervisor.children["part"].pid != first


async def test_leftovers_are_ended(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec("sleep", "60", cwd=tmp_path)
    running = Running(process.pid, psutil.Process(process.pid).create_time())
    assert await end_leftovers({"part": running}) == ["part"]
    assert await process.wait() == -signal.SIGTERM


async def test_a_recycled_pid_is_left_alone() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        running = Running(process.pid, psutil.Process(process.pid).create_time() - 100)
        assert is_same(running) is None
        assert await end_leftovers({"part": running}) == []
        assert process.returncode is None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.parametrize(("code", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "signal SIGKILL")])
def test_an_end_is_told_in_words(code: int, words: str) -> None:
    assert str(Exit(code)) == words


def test_a_log_is_bounded(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "part.log", limit=1_000)
    for number in range(100):
        log.write(f"line {number:04}\n".encode() * 5)
    log.close()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"part.log", "part.log.1"}
    assert all(size <= 1_000 for size in sizes.values())
    assert log.tail(1) == ["line 0099"]
