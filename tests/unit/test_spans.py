"""Spans go to the collector in batches and never hold up whoever makes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.mesh import logs, trace
from services.mesh.spans import Spans

GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
log = logs.logger("tests")


class Gate(SpanExporter):
    """A collector that takes nothing until it is opened, and then refuses or breaks, as told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.open = threading.Event()
        self.asked = threading.Event()
        self._error = error

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.open.wait(10)
        if self._error is not None:
            raise self._error
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.open.set()


@pytest.fixture
def memory() -> Iterator[tuple[Spans, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    spans = Spans(exporter, log, gathering=0.01)
    yield spans, exporter
    spans.shutdown()


def test_the_end_of_a_process_sends_what_waits(memory: tuple[Spans, InMemorySpanExporter]) -> None:
    spans, exporter = memory
    tracer = spans.tracer("identity")
    span = trace.begin(tracer, GIVEN, "work", trace.SERVER, {"what": "this"})
    trace.end(span, "broken", sampan__reason="broken")
    spans.shutdown()
    (found,) = exporter.get_finished_spans()
    assert found.resource.attributes["service.name"] == "identity"
    assert found.parent is not None
    assert f"{found.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert dict(found.attributes or {}) == {
        "what": "this",
        "sampan.reason": "broken",
        "error.type": "broken",
    }
    assert (spans.exported, spans.dropped) == (1, 0)


@pytest.mark.parametrize("error", [None, RuntimeError("no")])
def test_what_the_collector_does_not_take_is_dropped_and_counted(error: Exception | None) -> None:
    gate = Gate(error)
    spans = Spans(gate, log, queue=5, gathering=0.01)
    tracer = spans.tracer("identity")
    trace.end(trace.begin(tracer, GIVEN, "first", trace.SERVER, {}))
    assert gate.asked.wait(10)
    for _ in range(8):
        trace.end(trace.begin(tracer, GIVEN, "more", trace.SERVER, {}))
    assert spans.dropped == 3, "five wait, and nobody who made one had to"
    spans.shutdown()
    assert (spans.exported, spans.dropped) == (0, 9)


def test_a_step_is_below_the_present_span_and_tells_no_text(
    memory: tuple[Spans, InMemorySpanExporter],
) -> None:
    spans, exporter = memory
    tracer = spans.tracer("identity")
    span = trace.begin(tracer, GIVEN, "call", trace.SERVER, {})
    now = trace.here.set(trace.Here(tracer, span))
    with pytest.raises(KeyError), trace.step("COMMIT", trace.CLIENT, {}):
        raise KeyError("+66812345678")
    trace.here.reset(now)
    with trace.step("alone", trace.CLIENT, {}):
        pass
    span.end()
    spans.shutdown()
    step, call = exporter.get_finished_spans()
    assert step.parent is not None
    assert (step.name, step.parent.span_id) == ("COMMIT", call.context.span_id)
    assert dict(step.attributes or {}) == {"error.type": "KeyError"}
    assert not step.events


def test_a_log_line_says_the_trace_that_its_work_belongs_to() -> None:
    assert logs.add_trace(None, "info", {"event": "alone"}) == {"event": "alone"}
    now = trace.traceparent.set(GIVEN)
    assert logs.add_trace(None, "info", {"event": "x"})["trace_id"] == GIVEN[3:35]
    assert logs.add_trace(None, "info", {"event": "x", "trace_id": "its own"})["trace_id"] == "its own"
    trace.traceparent.reset(now)


@pytest.mark.parametrize(("flags", "kept"), [("00", False), ("01", True), ("02", False), ("ff", True)])
def test_the_flags_of_a_traceparent_say_whether_it_is_kept(flags: str, kept: bool) -> None:
    assert trace.is_kept(GIVEN[:-2] + flags) is kept
