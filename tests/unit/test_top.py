"""Rates and latencies between two looks at counters."""

from __future__ import annotations

import pytest

from services.stack.bench.meter import Meter
from services.stack.endpoints import Endpoint, scrape_config
from services.stack.home import State
from services.stack.top import Counted, Look, between

KEY = ("identity", "sampan.identity.v1.IdentityService/GetMe")


def a_look(at: float, ok: float, lost: float, *buckets: float) -> Look:
    bounds = (0.01, 0.1, float("inf"))
    counted = Counted({"OK": ok, "UNAVAILABLE": lost}, dict(zip(bounds, buckets, strict=True)))
    return Look(at, methods={KEY: counted})


def figures(before: Look, after: Look) -> dict[str, float]:
    (found,) = between(before, after, State(), Meter())["methods"]
    return dict(found)


def test_rates_are_of_the_interval() -> None:
    found = figures(a_look(0, 100, 0, 100, 100, 100), a_look(2, 103, 1, 102, 104, 104))
    assert (found["rate"], found["error_share"], found["calls"]) == (2.0, 0.25, 104)


def test_latencies_are_read_from_what_the_histogram_has_grown_by() -> None:
    found = figures(a_look(0, 50, 0, 0, 0, 50), a_look(1, 150, 0, 90, 100, 150))
    assert found["p50_ms"] == pytest.approx(5.56, abs=0.01)
    assert found["p95_ms"] == pytest.approx(55.0)
    assert found["p99_ms"] == pytest.approx(91.0)


def test_what_is_slower_than_every_bound_counts_as_the_last_bound() -> None:
    assert figures(a_look(0, 0, 0, 0, 0, 0), a_look(1, 1, 0, 0, 0, 1))["p50_ms"] == 100.0


def test_a_process_that_was_started_anew_counts_from_zero() -> None:
    found = figures(a_look(0, 900, 0, 900, 900, 900), a_look(1, 5, 0, 5, 5, 5))
    assert found["rate"] == 5.0


def test_without_calls_there_is_no_latency() -> None:
    found = figures(a_look(0, 5, 0, 5, 5, 5), a_look(1, 5, 0, 5, 5, 5))
    assert (found["rate"], found["error_share"], found["p99_ms"]) == (0.0, 0.0, None)


def test_a_prometheus_is_told_every_address_once() -> None:
    found = [
        Endpoint("people-1", 1, "/metrics"),
        Endpoint("people-2", 2, "/metrics"),
        Endpoint("envoy", 3, "/stats/prometheus", "usedonly"),
    ]
    services, edge = scrape_config(found)["scrape_configs"]
    assert [one["targets"] for one in services["static_configs"]] == [["127.0.0.1:1"], ["127.0.0.1:2"]]
    assert (edge["params"], edge["metrics_path"]) == ({"usedonly": [""]}, "/stats/prometheus")
