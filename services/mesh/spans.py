"""Takes spans to the collector: in batches, from a thread of its own, and never at the cost of a call.

What finds the queue full and what the collector does not take is dropped and counted.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer
from structlog.typing import FilteringBoundLogger

# Spans that wait, and that go in one message, at most.
QUEUE = 4096
BATCH = 512
# Seconds in which spans gather; idle, nothing wakes the thread.
GATHERING = 1.0
# Seconds that one message may take with all its tries; and that the end of the process waits, twice.
TIMEOUT = 5.0
PATIENCE = 1.0
_SCOPE = "sampan"


class Spans(SpanProcessor):
    """All spans of a process. `dropped` and `exported` count them."""

    def __init__(
        self,
        exporter: SpanExporter,
        log: FilteringBoundLogger,
        *,
        queue: int = QUEUE,
        gathering: float = GATHERING,
    ) -> None:
        self._exporter = exporter
        self._log = log
        self._limit = queue
        self._gathering = gathering
        self._waiting: deque[ReadableSpan] = deque()
        self._some = threading.Event()
        self._closing = threading.Event()
        self._away = False
        self.dropped = 0
        self.exported = 0
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    @classmethod
    def to(cls, endpoint: str, log: FilteringBoundLogger) -> Spans:
        """To a collector that speaks OTLP over gRPC, such as `http://127.0.0.1:4317`."""
        # What it says there is counted here and told once.
        logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter").setLevel(logging.CRITICAL)
        return cls(OTLPSpanExporter(endpoint=endpoint, timeout=TIMEOUT), log)

    def tracer(self, service: str) -> Tracer:
        """What a service makes its spans with. Whether there is one is decided before it is asked."""
        resource = Resource.create({"service.name": service, "process.pid": os.getpid()})
        provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self)
        return provider.get_tracer(_SCOPE)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queues a span. Never blocks."""
        if len(self._waiting) >= self._limit:
            self.dropped += 1
            return
        self._waiting.append(span)
        self._some.set()

    def shutdown(self) -> None:
        """Sends what waits, for PATIENCE seconds at most, and ends. Blocks."""
        self._closing.set()
        self._some.set()
        self._thread.join(PATIENCE)
        # Ends tries that are under way.
        self._exporter.shutdown()
        self._thread.join(PATIENCE)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Spans go by themselves."""
        return True

    def _run(self) -> None:
        while not self._closing.is_set():
            self._some.wait()
            self._closing.wait(self._gathering)
            self._some.clear()
            while self._waiting:
                self._send([self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))])

    def _send(self, batch: Sequence[ReadableSpan]) -> None:
        try:
            taken = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception as error:
            taken = False
            self._log.error("spans.failed", error=type(error).__name__)
        if taken:
            self.exported += len(batch)
        else:
            self.dropped += len(batch)
        if taken is self._away:
            self._away = not taken
            self._log.info("spans.taken" if taken else "spans.collector_away")
