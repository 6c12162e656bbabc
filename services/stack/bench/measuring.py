"""How things are measured: round by round, each beside its limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from services.stack.bench.rig import NO_LIMITS, Rig
from services.stack.bench.statistics import Round, Usage
from services.stack.bench.wire import Target
from services.stack.errors import StackError

Tell = Callable[[str], None]


# Calls in flight of figures that are measured with few, too; each has a connection.
SPARSE = 32


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure, and what. `settle` and `idle` in seconds; the loader keeps `in_flight` calls.

    `only`: figures whose name has that in it, each with its limit; all when it is empty.
    """

    rounds: int
    seconds: float
    settle: float
    idle: float
    connections: int = 32
    in_flight: int = 256
    # Idle streams to open, and whether to take minutes for what is slow.
    idle_streams: tuple[int, ...] = (1_000,)
    idle_websockets: int = 1_000
    long: bool = False
    only: str = ""

    def wants(self, *names: str) -> bool:
        """Whether one of these figures is asked for."""
        return any(self.only in name for name in names)

    def wants_long(self, name: str) -> bool:
        """The same of one that takes minutes: it is asked for by its name, or by taking all the time."""
        return self.wants(name) and (self.long or bool(self.only))


FULL = Effort(
    rounds=15,
    seconds=2.0,
    settle=15.0,
    idle=20.0,
    idle_streams=(1_000, 10_000),
    idle_websockets=5_000,
    long=True,
)
QUICK = Effort(rounds=7, seconds=1.0, settle=8.0, idle=10.0)
# What takes minutes, and the rest as quickly as that.
LONG = replace(QUICK, long=True)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure: the call, the processes that serve it, the name of its limit unless it is one.

    `load` puts on another load than calls in a closed loop, for so many seconds. `connections` are shared by
    `in_flight` calls; 0 for as many as the effort says.
    """

    name: str
    target: Target
    servers: tuple[str, ...]
    limit: str = ""
    load: Callable[[float], Round] | None = None
    connections: int = 0
    in_flight: int = 0

    def sparse(self) -> Case:
        """The same with a call at a time on each of 32 connections, beside a limit that has as many."""
        return replace(
            self,
            name=sparse(self.name),
            target=replace(self.target, name=sparse(self.target.name)),
            limit=sparse(self.limit),
            connections=SPARSE,
            in_flight=SPARSE,
        )


def sparse(name: str) -> str:
    """The name of a figure with few calls in flight."""
    return f"{name}_{SPARSE}" if name else ""


def chosen(cases: list[Case], effort: Effort, made_of: Mapping[str, tuple[str, ...]]) -> list[Case]:
    """The cases that are asked for, with their limits. `made_of`: figures that are no case of their own."""
    wanted = {case.name for case in cases if effort.wants(case.name)}
    for figure, parts in made_of.items():
        wanted.update(parts if effort.wants(figure) else ())
    for case in cases:
        if case.name in wanted:
            wanted.update((case.limit, *made_of.get(case.limit, ())))
    return [case for case in cases if case.name in wanted]


def interleaved(
    rig: Rig, cases: list[Case], effort: Effort, tell: Tell
) -> tuple[dict[str, list[Round]], dict[str, tuple[Usage, ...]]]:
    """Measures all cases round by round, forwards and backwards in turn, after a warm-up of each."""
    tell("warms up")
    for case in cases:
        _round(rig, case, effort, min(1.0, effort.seconds))
    rounds: dict[str, list[Round]] = {case.name: [] for case in cases}
    cpu = {case.name: dict.fromkeys((*case.servers, "loader"), 0.0) for case in cases}
    for number in range(effort.rounds):
        for case in cases if number % 2 == 0 else reversed(cases):
            found, used = _round(rig, case, effort, effort.seconds)
            rounds[case.name].append(found)
            for name, seconds in used.items():
                cpu[case.name][name] += seconds
        tell(f"round {number + 1} of {effort.rounds}")
    memory = rig.meter.pss(rig.meter.names)
    usage = {
        case: tuple(Usage(name, seconds, memory[name]) for name, seconds in used.items())
        for case, used in cpu.items()
    }
    return rounds, usage


def _round(rig: Rig, case: Case, effort: Effort, seconds: float) -> tuple[Round, dict[str, float]]:
    groups = (*case.servers, "loader")
    before = rig.meter.cpu(groups)
    if case.load is not None:
        found = case.load(seconds)
    else:
        connections = case.connections or effort.connections
        found, _ = rig.loader.run(
            case.target,
            seconds=seconds,
            connections=connections,
            in_flight=case.in_flight or effort.in_flight,
        )
    after = rig.meter.cpu(groups)
    used = {name: after[name] - before[name] for name in groups}
    if found.failures or not found.calls:
        raise StackError(
            "bench",
            f"{case.name}: {found.failures} of {found.failures + found.calls} calls failed",
            NO_LIMITS,
        )
    # The unmeasured start of a round took CPU, too.
    share = found.seconds / (found.seconds + seconds / 10)
    return found.with_cpu(sum(used[name] for name in case.servers) * share), used
