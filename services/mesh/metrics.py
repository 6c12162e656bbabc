"""What is counted, and how it is told to Prometheus.

Counting is plain numbers in plain lists, found once for each method when the server is built. Names, labels
and text are made when somebody asks.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

# Upper bounds of latencies in seconds; a last bucket has all that is slower.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
OK = "OK"
# Whoever called went away before there was an answer.
CANCELLED = "CANCELLED"
# How calls end, as histograms tell them: well, by the caller's fault, by ours.
OUTCOMES = ("ok", "refused", "failed")
_LAG_SECONDS = 2.0


class Gauge(NamedTuple):
    """A figure as it is now. `labels` besides that of the service."""

    name: str
    help: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


class Distribution:
    """A histogram. `bounds` are the upper ones of its buckets; a last one has all that is more."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> int:
        """Counts one; returns its bucket."""
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.total += value
        return bucket


class Histogram(NamedTuple):
    """A distribution as a part tells it. `labels` besides that of the service."""

    name: str
    help: str
    distribution: Distribution
    labels: tuple[tuple[str, str], ...] = ()


Figure = Gauge | Histogram
# Asked at every scrape. What it raises leaves its figures out.
Observe = Callable[[], Awaitable[Sequence[Figure]]]


class Latency(Distribution):
    """A histogram of seconds. `exemplars` has, for a bucket, a trace that is kept: its id, seconds, when."""

    __slots__ = ("exemplars",)

    def __init__(self) -> None:
        super().__init__()
        self.exemplars: dict[int, tuple[str, float, float]] = {}

    def add_kept(self, seconds: float, trace_id: str) -> None:
        """Counts one that can be looked at."""
        self.exemplars[self.add(seconds)] = (trace_id, seconds, time.time())


class MethodCalls:
    """Calls of one method. A stream's time says how long somebody listened: it is in no histogram."""

    __slots__ = ("begun", "latencies", "method", "ok", "reasons", "streams")

    def __init__(self, method: str, *, streams: bool) -> None:
        self.method = method
        self.streams = streams
        self.begun = 0
        self.ok = Latency()
        self.latencies = {"ok": self.ok, "refused": Latency(), "failed": Latency()}
        self.reasons: dict[str, int] = {}

    @property
    def in_flight(self) -> int:
        """Begun and not ended."""
        return self.begun - sum(self.by_reason.values())

    @property
    def by_reason(self) -> dict[str, int]:
        """Calls that ended, by reason."""
        well = sum(self.ok.counts)
        return {**({OK: well} if well else {}), **self.reasons}

    def ended(self, reason: str, outcome: str, seconds: float, kept_in: str = "") -> None:
        """One has ended not well, or as a stream. `kept_in` is the trace that is kept of it."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if self.streams:
            return
        latency = self.latencies[outcome]
        if kept_in:
            latency.add_kept(seconds, kept_in)
        else:
            latency.add(seconds)


class Calls:
    """Calls of one service. What is in no contract is counted under one name, whatever it was called."""

    def __init__(self) -> None:
        self._methods: dict[str, MethodCalls] = {}

    def of(self, path: str, *, streams: bool) -> MethodCalls:
        """The counter of a method, by its path."""
        name = path.removeprefix("/") or "unknown"
        if name not in self._methods:
            self._methods[name] = MethodCalls(name, streams=streams)
        return self._methods[name]

    def __iter__(self) -> Iterator[MethodCalls]:
        return iter(self._methods.values())


class LoopLag:
    """How late the event loop is: what waits behind somebody's long computation, waits that long."""

    def __init__(self) -> None:
        self.lag = Latency()

    async def run(self) -> None:
        """Looks every other second, until cancelled."""
        while True:
            # The loop's own clock stands still while it is busy.
            due = time.perf_counter() + _LAG_SECONDS
            await asyncio.sleep(_LAG_SECONDS)
            self.lag.add(max(0.0, time.perf_counter() - due))
