"""The suites: which figures there are, against which limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from services.stack.bench.measuring import Case, Effort, Tell, chosen, interleaved
from services.stack.bench.messaging import messaging
from services.stack.bench.payment import payment
from services.stack.bench.rig import Rig
from services.stack.bench.statistics import Figure, rate_figure
from services.stack.bench.wire import grpc_message

# Who calls a service has few connections to it, with many calls on each: a worker of Envoy has one, and so
# has a service.
PEERS = 4
IDLE_CPU, MEMORY = "stack.idle_cpu", "stack.memory"


def edge(rig: Rig, effort: Effort, tell: Tell) -> list[Figure]:
    """What the mesh adds to a bare RPC: the chain, a real read, the edge with its translation to REST."""
    figures = stack_costs(rig, effort, tell) if effort.wants(IDLE_CPU, MEMORY) else []
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
    bare = Case("echo", echo, ("echo",), connections=PEERS)
    unary = Case("edge.unary", chain_echo, ("probe",), limit="echo", connections=PEERS)
    cases = [
        bare,
        unary,
        bare.sparse(),
        unary.sparse(),
        Case("edge.getme", getme, ("people", "postgres"), limit="chain_echo", connections=PEERS),
        Case(
            "edge.rest_getme",
            rig.rest_target("edge.rest_getme", address, "/v1/me"),
            ("edge", "people", "postgres"),
            limit="envoy_echo",
        ),
        Case("envoy_echo", rig.rest_target("envoy_echo", address, "/v1/probe/word"), ("edge", "probe")),
    ]
    # The same call under two names: a figure to the bare echo, a limit to what does more.
    cases = chosen(cases, effort, {"chain_echo": ("edge.unary",)})
    if not cases:
        return figures
    rounds, usage = interleaved(rig, cases, effort, tell)
    rounds["chain_echo"] = rounds.get("edge.unary", [])
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
        Figure("edge", IDLE_CPU, cpu, "% of a core", target=5.0, processes=usage),
        Figure("edge", MEMORY, memory, "MiB", target=1024.0, processes=usage),
    ]


SUITES: Mapping[str, Callable[[Rig, Effort, Tell], list[Figure]]] = {
    "edge": edge,
    "messaging": messaging,
    "payment": payment,
}
