"""A thousand messages at the same moment, beside a thousand empty calls of a bare server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from services.stack.bench.measuring import Effort, Tell
from services.stack.bench.rig import PEOPLE, Rig
from services.stack.bench.statistics import Figure, Round
from services.stack.bench.wire import Target

AT_ONCE = 1_000
ECHO = "echo_1000_at_once"
# Milliseconds in which 99 of 100 deliveries shall be there.
_P99 = 100.0
# Who writes, and the other one of the dialog.
_RECEIVERS = 2


def deliveries(rig: Rig, targets: Sequence[Target], effort: Effort, tell: Tell) -> list[Figure]:
    """How long messages take from one person to the other, door by door, and what the limit takes."""
    if not targets:
        return []
    echo = replace(rig.echo(), name=ECHO)
    rounds: dict[str, list[Round]] = {target.name: [] for target in (echo, *targets)}
    for number in range(effort.rounds + 1):
        tell(f"sends {AT_ONCE} messages at once, again and again: {number} of {effort.rounds}")
        for target in (echo, *targets):
            found = _round(rig, target, effort.seconds, is_limit=target is echo)
            # The first warms up.
            rounds[target.name] += [found] if number else []
    for target in (echo, *targets):
        rig.loader.release(target)
    limits = rounds[ECHO]
    return [_figure(target.name, rounds[target.name], limits) for target in targets] + [
        Figure("messaging", ECHO, _p99(limits), "ms p99", rounds=tuple(limits))
    ]


def _round(rig: Rig, target: Target, seconds: float, *, is_limit: bool) -> Round:
    how: dict[str, float] = {"seconds": seconds, "connections": PEOPLE}
    if is_limit:
        found, _ = rig.loader.round("calls_at_once", {"target": target}, calls=AT_ONCE, **how)
    else:
        found, _ = rig.loader.round(
            "burst", {"target": target}, messages=AT_ONCE, receivers=_RECEIVERS, **how
        )
    return found


def _figure(name: str, rounds: Sequence[Round], limits: Sequence[Round]) -> Figure:
    return Figure(
        "messaging",
        name,
        _p99(rounds),
        "ms p99",
        limit=_p99(limits),
        limit_name=ECHO,
        ratio=median(one.p99_ms / limit.p99_ms for one, limit in zip(rounds, limits, strict=True)),
        rounds=tuple(rounds),
        target=_P99,
    )


def _p99(rounds: Sequence[Round]) -> float:
    return median(one.p99_ms for one in rounds)
