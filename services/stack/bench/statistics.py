"""What is made of measured rounds: quantiles, medians, ratios; and the JSON of a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process took: CPU seconds during the rounds, and its proportional share of memory."""

    name: str
    cpu_seconds: float
    pss_bytes: int


@dataclass(frozen=True, slots=True)
class Round:
    """One measured stretch: calls that ended well within `seconds`, and their latencies in milliseconds.

    `server_cpu` is what the processes that serve the call took meanwhile, in CPU seconds.
    """

    calls: int
    failures: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    server_cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds

    def with_cpu(self, seconds: float) -> Round:
        """The same, with what the servers took."""
        return replace(self, server_cpu=seconds)

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the servers for each call."""
        return self.server_cpu / self.calls * 1e6 if self.calls else 0.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result. `limit` is the value of `limit_name` in the same run, `ratio` is ours to it."""

    suite: str
    name: str
    value: float
    unit: str
    limit: float | None = None
    limit_name: str = ""
    ratio: float | None = None
    rounds: tuple[Round, ...] = ()
    processes: tuple[Usage, ...] = ()
    # Highest value that is still good, for figures that are costs.
    target: float | None = None

    def to_json(self) -> dict[str, object]:
        """The object that `--json` writes."""
        found: dict[str, object] = {
            "suite": self.suite,
            "name": self.name,
            "value": _short(self.value),
            "unit": self.unit,
            "limit": None if self.limit is None else _short(self.limit),
            "limit_name": self.limit_name or None,
            "ratio": None if self.ratio is None else _short(self.ratio),
        }
        if self.target is not None:
            found["target"] = self.target
        if self.rounds:
            for name in ("p50_ms", "p95_ms", "p99_ms", "cpu_us"):
                found[name] = _short(median(getattr(one, name) for one in self.rounds))
            found["rounds"] = [_short(one.rate) for one in self.rounds]
        if self.processes:
            found["processes"] = [
                {"name": one.name, "cpu_seconds": _short(one.cpu_seconds), "pss_bytes": one.pss_bytes}
                for one in self.processes
            ]
        return found


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed; 0 for nothing."""
    if not ordered:
        return 0.0
    rank = -(-len(ordered) * share // 1)
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]


def summary(latencies: Sequence[float], failures: int, seconds: float) -> Round:
    """A round from the latencies of its calls, in seconds."""
    ordered = sorted(latencies)
    p50, p95, p99 = (quantile(ordered, share) * 1000 for share in (0.5, 0.95, 0.99))
    return Round(len(ordered), failures, seconds, p50, p95, p99)


def rate_figure(
    suite: str,
    name: str,
    rounds: Sequence[Round],
    *,
    limit_name: str = "",
    limits: Sequence[Round] = (),
    processes: Sequence[Usage] = (),
) -> Figure:
    """A throughput beside its limit.

    The ratio is the median over rounds of each round's own: what disturbs the machine hits neighbours alike.
    """
    value = median(one.rate for one in rounds)
    if not limits:
        return Figure(suite, name, value, "calls/s", rounds=tuple(rounds), processes=tuple(processes))
    ratios = [one.rate / limit.rate for one, limit in zip(rounds, limits, strict=True) if limit.rate]
    return Figure(
        suite,
        name,
        value,
        "calls/s",
        limit=median(one.rate for one in limits),
        limit_name=limit_name,
        ratio=median(ratios),
        rounds=tuple(rounds),
        processes=tuple(processes),
    )


def _short(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}")
