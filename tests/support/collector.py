"""An OTLP collector of a test's own: keeps the spans that it is given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc


@dataclass(frozen=True)
class Span:
    """One span as it came."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool
    text: str


class Collector(rpc.TraceServiceServicer):  # type: ignore[misc]
    """All spans, in the order in which they came."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    async def Export(self, request: pb.ExportTraceServiceRequest, _: object) -> pb.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            service = _values(resource.resource.attributes).get("service.name", "")
            for scope in resource.scope_spans:
                self.spans.extend(_span(service, one) for one in scope.spans)
        return pb.ExportTraceServiceResponse()

    def of(self, trace: str) -> list[Span]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace == trace]


def _values(attributes: Any) -> dict[str, Any]:
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value") for one in attributes
    }


def _span(service: str, one: Any) -> Span:
    return Span(
        service,
        one.name,
        one.kind,
        one.trace_id.hex(),
        one.span_id.hex(),
        one.parent_span_id.hex(),
        _values(one.attributes),
        one.status.code == 2,
        str(one),
    )


@asynccontextmanager
async def collecting(port: int = 0) -> AsyncIterator[tuple[Collector, str]]:
    """A collector that listens, and its endpoint."""
    server = grpc.aio.server()
    collector = Collector()
    rpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)
