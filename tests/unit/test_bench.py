"""Benchmarks: quantiles, ratios, the JSON of a figure, and the bytes of a call."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from sampan.messaging.v1 import frame_pb2
from services.stack.bench import report, wire
from services.stack.bench.loader import decoded, encoded
from services.stack.bench.measuring import FULL, QUICK, Case, chosen
from services.stack.bench.messaging import connect_message, unary_message
from services.stack.bench.rig import PROBE_REST, with_rest_probe
from services.stack.bench.statistics import Figure, Round, Usage, quantile, rate_figure, summary
from services.stack.bench.streams import Listener, Tally
from services.stack.paths import ROOT


def a_round(rate: float) -> Round:
    return Round(int(rate * 2), 0, 2.0, 1.0, 2.0, 3.0, server_cpu=0.5)


def test_quantiles_are_values_that_were_seen() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert [quantile(ordered, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert quantile([7.0], 0.5) == 7
    assert quantile([], 0.5) == 0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_quantile_is_not_below_its_share(values: list[float], share: float) -> None:
    found = quantile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_summary_counts_in_milliseconds() -> None:
    found = summary([0.003, 0.001, 0.002], failures=1, seconds=0.5)
    assert (found.calls, found.failures, found.rate, found.p50_ms, found.p99_ms) == (3, 1, 6.0, 2.0, 3.0)


def test_ratio_is_the_median_of_each_rounds_own() -> None:
    ours, limits = [a_round(rate) for rate in (80, 40, 70)], [a_round(rate) for rate in (100, 50, 100)]
    found = rate_figure("edge", "edge.unary", ours, limit_name="echo", limits=limits)
    assert (found.value, found.limit, found.ratio) == (70, 100, 0.8)


def test_json_says_all_that_a_reader_needs(tmp_path: Path) -> None:
    found = rate_figure(
        "edge",
        "edge.unary",
        [a_round(75)],
        limit_name="echo",
        limits=[a_round(100)],
        processes=[Usage("probe", 0.5, 1024)],
    )
    report.write_json(
        [found, Figure("edge", "stack.memory", 300.0, "MiB", target=1024.0)], tmp_path / "x.json"
    )
    rate, memory = json.loads((tmp_path / "x.json").read_text())
    assert rate == {
        "suite": "edge",
        "name": "edge.unary",
        "value": 75.0,
        "unit": "calls/s",
        "limit": 100.0,
        "limit_name": "echo",
        "ratio": 0.75,
        "p50_ms": 1.0,
        "p95_ms": 2.0,
        "p99_ms": 3.0,
        "cpu_us": 3333.0,
        "rounds": [75.0],
        "processes": [{"name": "probe", "cpu_seconds": 0.5, "pss_bytes": 1024}],
    }
    assert memory["target"] == 1024.0
    assert memory["limit"] is None
    assert memory["ratio"] is None


def test_chart_is_well_formed_and_names_each_rate() -> None:
    found = rate_figure("edge", "edge.unary", [a_round(75)], limit_name="echo", limits=[a_round(100)])
    svg = ElementTree.fromstring(report.chart([found, Figure("edge", "stack.memory", 300.0, "MiB")]))  # noqa: S314
    said = [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "edge.unary" in said
    assert "75 = 0.75 of echo" in said
    assert "stack.memory" not in said


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ("", ["pgbench", "echo", "a.one", "a.two"]),
        ("one", ["echo", "a.one"]),
        ("two", ["a.one", "a.two"]),
        ("echo", ["echo"]),
        ("beside", ["pgbench", "echo", "a.one"]),
        ("three", []),
    ],
)
def test_what_is_asked_for_is_measured_with_its_limits(only: str, names: list[str]) -> None:
    target = wire.Target("t", "localhost", 1, ())
    cases = [
        Case("pgbench", target, ()),
        Case("echo", target, ()),
        Case("a.one", target, (), limit="echo"),
        Case("a.two", target, (), limit="same"),
    ]
    made_of = {"same": ("a.one",), "beside": ("a.one", "pgbench")}
    found = chosen(cases, replace(QUICK, only=only), made_of)
    assert [case.name for case in found] == names


def test_what_takes_minutes_is_measured_in_full_or_when_it_is_named() -> None:
    assert FULL.wants_long("a.million")
    assert not QUICK.wants_long("a.million")
    assert replace(QUICK, only="million").wants_long("a.million")
    assert not replace(FULL, only="idle").wants_long("a.million")


def test_calls_after_the_first_refer_to_its_headers() -> None:
    headers = (*wire.grpc_headers("https", "probe", "/p.S/M"), ("authorization", "Bearer " + "x" * 500))
    decoder = Decoder()
    decoder.max_header_list_size = 1 << 16
    assert decoder.decode(wire.first_block(headers)) == list(headers)
    later = wire.later_block(headers)
    assert decoder.decode(later) == list(headers)
    assert len(later) == len(headers)


def test_headers_that_the_server_cannot_remember_are_refused() -> None:
    with pytest.raises(ValueError, match="table"):
        wire.Request((("authorization", "x" * 5000),), b"")


def test_target_survives_the_way_to_the_loader() -> None:
    target = wire.Target("echo", "127.0.0.1", 1, wire.rest_headers("h", "/p"), b"\0\1", tokens=("a", "b"))
    assert decoded(json.loads(json.dumps(encoded(target)))) == target
    assert wire.headers_of(target, 3)[-1] == ("authorization", "Bearer b")


def test_only_the_benchmarks_descriptors_give_the_probe_an_address() -> None:
    raw = (ROOT / "gen" / "descriptors.binpb").read_bytes()

    def addresses(descriptors: bytes) -> list[str]:
        return [
            method.options.Extensions[annotations_pb2.http].get
            for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file
            for service in file.service
            if service.name == "ProbeService"
            for method in service.method
            if method.options.HasExtension(annotations_pb2.http)
        ]

    assert addresses(raw) == []
    assert addresses(with_rest_probe(raw)) == [PROBE_REST]


def test_stamped_messages_are_of_one_length_and_no_two_alike() -> None:
    body = unary_message("019a2f5e-7d54-7cc0-8f6d-2b7d8a51c3aa")
    made = {wire.stamped(body) for _ in range(100)}
    assert len(made) == 100
    assert {len(one) for one in made} == {len(body)}
    send = frame_pb2.ConnectRequest.FromString(
        wire.stamped(connect_message("019a2f5e-7d54-7cc0-8f6d-2b7d8a51c3aa"))[5:]
    )
    stamp = send.send.client_message_id
    assert send.ref == f"@@reply:{stamp}"
    assert send.send.content.text.startswith(f"@@bench:{stamp} ")


@given(st.lists(st.integers(1, 400), max_size=20), st.integers(1, 5))
def test_events_are_counted_once_however_the_bytes_come(cuts: list[int], events: int) -> None:
    tally = Tally()
    listener = Listener(wire.Target("t", "localhost", 1, ()), 0, tally)
    text = wire.stamped(b"@@bench:" + wire.STAMP)
    data = b"".join(b"some other bytes " + text + b" and its words " for _ in range(events))
    at = 0
    for cut in [*cuts, len(data)]:
        piece = data[at : at + cut]
        listener._on_stream(wire.DATA, 0, 1, piece, 0, len(piece))
        at += cut
    assert tally.total == events
    assert len(tally.latencies) == events
