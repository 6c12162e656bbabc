"""The suites: which figures there are, against which limits, and how they are measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.stack.bench.rig import Rig
from services.stack.bench.statistics import Figure, Round, Usage, rate_figure
from services.stack.bench.wire import Target, grpc_message
from services.stack.errors import StackError

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure. `settle` and `idle` in seconds; the loader keeps `in_flight` calls going."""

    rounds: int
    seconds: float
    settle: float
    idle: float
    connections: int = 32
    in_flight: int = 32


FULL = Effort(rounds=15, seconds=2.0, settle=15.0, idle=20.0)
QUICK = Effort(rounds=7, seconds=1.0, settle=8.0, idle=10.0)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure: the call, the processes that serve it, the name of its limit unless it is one."""

    name: str
    target: Target
    servers: tuple[str, ...]
    limit: str = ""


def edge(rig: Rig, effort: Effort, tell: Tell) -> list[Figure]:
    """What the mesh adds to a bare RPC: the chain, a real read, the edge with its translation to REST."""
    figures = stack_costs(rig, effort, tell)
    echo = rig.echo()
    chain_echo = rig.probe()
    getme = rig.mesh_target(
        "edge.getme",
        "identity",
        rig.service_address("identity"),
        "/sampan.identity.v1.IdentityService/GetMe",
        grpc_message(b""),
    )
    address = rig.edge(chain_echo)
    # Neighbours share what disturbs the machine, so a figure stands beside its limit.
    cases = [
        Case("echo", echo, ("echo",)),
        Case("edge.unary", chain_echo, ("probe",), limit="echo"),
        Case("edge.getme", getme, ("people", "postgres"), limit="chain_echo"),
        Case(
            "edge.rest_getme",
            rig.rest_target("edge.rest_getme", address, "/v1/me"),
            ("edge", "people", "postgres"),
            limit="envoy_echo",
        ),
        Case("envoy_echo", rig.rest_target("envoy_echo", address, "/v1/probe/word"), ("edge", "probe")),
    ]
    rounds, usage = interleaved(rig, cases, effort, tell)
    # The same call under two names: a figure to the bare echo, a limit to what does more.
    rounds["chain_echo"] = rounds["edge.unary"]
    figures += [
        rate_figure(
            "edge",
            case.name,
            rounds[case.name],
            limit_name=case.limit,
            limits=rounds.get(case.limit, ()),
            processes=usage[case.name],
        )
        for case in cases
    ]
    return figures


SUITES: Mapping[str, Callable[[Rig, Effort, Tell], list[Figure]]] = {"edge": edge}


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
    found, _ = rig.loader.run(
        case.target, seconds=seconds, connections=effort.connections, in_flight=effort.in_flight
    )
    after = rig.meter.cpu(groups)
    used = {name: after[name] - before[name] for name in groups}
    if found.failures or not found.calls:
        raise StackError(
            "bench",
            f"{case.name}: {found.failures} of {found.failures + found.calls} calls failed",
            "Start the stack with SAMPAN_RATE_LIMIT_SCALE=1000000, or stop it: then a private one is made.",
        )
    # The unmeasured start of a round took CPU, too.
    share = found.seconds / (found.seconds + seconds / 10)
    return found.with_cpu(sum(used[name] for name in case.servers) * share), used


def stack_costs(rig: Rig, effort: Effort, tell: Tell) -> list[Figure]:
    """Memory of the whole stack, and what it does when nobody asks for anything."""
    tell(f"leaves the stack alone for {effort.settle + effort.idle:.0f} s to see what it does idle")
    time.sleep(effort.settle)
    before, begun = rig.meter.cpu(rig.stack), time.monotonic()
    time.sleep(effort.idle)
    usage = rig.meter.usage(before)
    took = time.monotonic() - begun
    cpu = sum(one.cpu_seconds for one in usage) / took * 100
    memory = sum(one.pss_bytes for one in usage) / 2**20
    return [
        Figure("edge", "stack.idle_cpu", cpu, "% of a core", target=5.0, processes=usage),
        Figure("edge", "stack.memory", memory, "MiB", target=1024.0, processes=usage),
    ]
