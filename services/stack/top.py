"""What a stack does just now: two looks at its counters, and what lies between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from services.stack.bench.meter import Meter
from services.stack.endpoints import Endpoint
from services.stack.home import Home, State
from services.stack.topology import EDGE

SHARES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
# Seconds that a process may take to answer.
PATIENCE = 2.0
# As much of what Envoy counts as is shown here.
_EDGE_FILTER = "&filter=http.edge.downstream_rq"
_MIB = 2**20


@dataclass(slots=True)
class Counted:
    """Counters of one method, or of the edge. `buckets` by upper bound in seconds, each with all below."""

    reasons: dict[str, float] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)
    in_flight: float = 0.0

    def add(self, reason: str, count: float) -> None:
        self.reasons[reason] = self.reasons.get(reason, 0.0) + count

    def add_bucket(self, bound: float, count: float) -> None:
        self.buckets[bound] = self.buckets.get(bound, 0.0) + count


@dataclass(slots=True)
class Look:
    """Everything at one moment; `methods` by service and method."""

    at: float
    edge: Counted = field(default_factory=Counted)
    methods: dict[tuple[str, str], Counted] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)


async def look(found: Sequence[Endpoint], meter: Meter) -> Look:
    """Asks every process and the edge. Who does not answer is left out."""
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        texts = await asyncio.gather(*(_text(client, one) for one in found))
    seen = Look(time.monotonic(), cpu=meter.cpu(meter.names))
    for one, text in zip(found, texts, strict=True):
        if one.part == EDGE:
            _read_edge(seen, text)
        else:
            _read_services(seen, text)
    return seen


async def _text(client: httpx.AsyncClient, one: Endpoint) -> str:
    try:
        answer = await client.get(one.url + (_EDGE_FILTER if one.part == EDGE else ""))
    except httpx.HTTPError:
        return ""
    return answer.text if answer.status_code == 200 else ""


def _read_services(seen: Look, text: str) -> None:
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            if "method" not in labels:
                continue
            counted = seen.methods.setdefault((labels["service"], labels["method"]), Counted())
            if name == "sampan_calls_total":
                counted.add(labels["reason"], value)
            elif name == "sampan_calls_in_flight":
                counted.in_flight += value
            elif name == "sampan_call_seconds_bucket":
                counted.add_bucket(float(labels["le"]), value)


def _read_edge(seen: Look, text: str) -> None:
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            # Envoy calls it without `_total`; the parser does not.
            if name == "envoy_http_downstream_rq_xx_total":
                seen.edge.add(labels["envoy_response_code_class"] + "xx", value)
            elif name == "envoy_http_downstream_rq_time_bucket":
                seen.edge.add_bucket(float(labels["le"]) / 1000, value)
            elif name == "envoy_http_downstream_rq_active":
                seen.edge.in_flight += value


class Watch:
    """Looks again and again at the stack of one home."""

    def __init__(self, home: Home, found: Sequence[Endpoint]) -> None:
        self._home = home
        self._found = found
        self._before = Look(0.0)

    async def begin(self) -> None:
        """Looks for the first time."""
        self._before = await look(self._found, meter_of(self._home.load_state()))

    async def next(self) -> dict[str, Any]:
        """What has been since the last look."""
        # A part that was started anew is another process.
        state = self._home.load_state()
        meter = meter_of(state)
        after = await look(self._found, meter)
        said = between(self._before, after, state, meter)
        self._before = after
        return said


def meter_of(state: State) -> Meter:
    """Watches the processes of a stack."""
    meter = Meter()
    for name, running in state.parts.items():
        meter.add(name, running.pid)
    return meter


def between(before: Look, after: Look, state: State, meter: Meter) -> dict[str, Any]:
    """Rates per second, latencies and processes, as JSON has them."""
    seconds = max(after.at - before.at, 1e-3)
    edge = _figures(before.edge, after.edge, seconds)
    classes = _grown(before.edge.reasons, after.edge.reasons)
    methods = [
        {
            "service": key[0],
            "method": key[1],
            **_figures(before.methods.get(key, Counted()), counted, seconds),
        }
        for key, counted in after.methods.items()
        if counted.reasons or counted.in_flight
    ]
    methods.sort(key=lambda one: (-one["rate"], -one["calls"], one["method"]))
    return {
        "seconds": round(seconds, 3),
        "edge": {**edge, "by_class": {name: round(count / seconds, 2) for name, count in classes.items()}},
        "methods": methods,
        "parts": list(_parts(before, after, state, meter, seconds)),
    }


def _figures(before: Counted, after: Counted, seconds: float) -> dict[str, Any]:
    grown = _grown(before.reasons, after.reasons)
    calls = sum(grown.values())
    well = sum(count for reason, count in grown.items() if reason in _WELL)
    buckets = _grown(before.buckets, after.buckets)
    return {
        "calls": round(sum(after.reasons.values())),
        "in_flight": round(after.in_flight),
        "rate": round(calls / seconds, 2),
        "error_share": round((calls - well) / calls, 4) if calls else 0.0,
        **{name: _milliseconds(buckets, share) for name, share in SHARES.items()},
    }


# At the edge classes of HTTP stand for reasons.
_WELL = ("OK", "1xx", "2xx", "3xx")


def _grown(before: Mapping[Any, float], after: Mapping[Any, float]) -> dict[Any, float]:
    """By how much; what has become less was started anew and counts from zero."""
    if any(after.get(name, 0.0) < count for name, count in before.items()):
        return dict(after)
    return {name: count - before.get(name, 0.0) for name, count in after.items()}


def _milliseconds(buckets: Mapping[float, float], share: float) -> float | None:
    """The latency that this share of calls did not exceed, as if those of a bucket were spread evenly."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if not total:
        return None
    wanted = total * share
    for below, bound in pairwise((0.0, *bounds)):
        under, upto = buckets.get(below, 0.0), buckets[bound]
        if upto >= wanted:
            if bound == float("inf"):
                return round(below * 1000, 2)
            inside = (wanted - under) / (upto - under) if upto > under else 1.0
            return round((below + (bound - below) * inside) * 1000, 2)
    return None


def _parts(before: Look, after: Look, state: State, meter: Meter, seconds: float) -> Iterable[dict[str, Any]]:
    memory = meter.pss(meter.names)
    for name, running in state.parts.items():
        spent = after.cpu.get(name, 0.0) - before.cpu.get(name, 0.0)
        yield {
            "part": name,
            "pid": running.pid,
            "cpu_percent": round(max(spent, 0.0) / seconds * 100, 1),
            "pss_mib": round(memory.get(name, 0) / _MIB, 1),
            "restarts": running.restarts,
            "uptime_s": round(time.time() - running.started),
        }
