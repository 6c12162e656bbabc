"""The trace that present work belongs to: its W3C context always, and its span when the trace is kept.

Whether it is kept was decided at the edge and stands in the `traceparent`. Nothing of OpenTelemetry's SDK is
touched for a trace that is not. Names and attributes say what was done, never with what: no values, no
persons, no texts of errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TraceFlags, Tracer

TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
# Last digits of flags whose lowest bit is set: sampled.
_KEPT = frozenset("13579bdf")

SERVER, CLIENT, PRODUCER, CONSUMER, INTERNAL = "SERVER", "CLIENT", "PRODUCER", "CONSUMER", "INTERNAL"


class Here(NamedTuple):
    """The span that is being worked on, and who makes those below it."""

    tracer: Tracer
    span: Span


# The W3C `traceparent` of the work in progress, or empty.
traceparent: ContextVar[str] = ContextVar("traceparent", default="")
here: ContextVar[Here | None] = ContextVar("here", default=None)
# Whose background work this is: begins spans where no call did. Set by the process, not by services.
tracer: ContextVar[Tracer | None] = ContextVar("tracer", default=None)


def trace_id(given: str) -> str:
    """The trace of a `traceparent`, or the empty string."""
    return given[3:35]


def is_kept(given: str) -> bool:
    """Whether a well-formed `traceparent` says that its trace is kept."""
    return given[-1:] in _KEPT


def text_of(span: Span) -> str:
    """The `traceparent` of what follows from a span."""
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags & 0xFF:02x}"


def begin(by: Tracer, given: str, name: str, kind: str, attributes: Mapping[str, str]) -> Span:
    """A span below that of a `traceparent` from elsewhere. Whoever begins it ends it."""
    from opentelemetry import trace as api

    _, trace, parent, flags = given.split("-")
    remote = api.SpanContext(int(trace, 16), int(parent, 16), is_remote=True, trace_flags=_flags(flags))
    context = api.set_span_in_context(api.NonRecordingSpan(remote))
    return by.start_span(name, context=context, kind=api.SpanKind[kind], attributes=dict(attributes))


def below(now: Here, name: str, kind: str, attributes: Mapping[str, str]) -> Span:
    """A span below the present one. Whoever begins it ends it."""
    from opentelemetry import trace as api

    context = api.set_span_in_context(now.span)
    return now.tracer.start_span(name, context=context, kind=api.SpanKind[kind], attributes=dict(attributes))


def enter(by: Tracer, span: Span) -> None:
    """Makes a span the present one, for the rest of this task."""
    here.set(Here(by, span))
    traceparent.set(text_of(span))


def end(span: Span, error: str = "", **attributes: str | int) -> None:
    """Ends a span; `error` is a stable word for what went wrong, never the text of it."""
    from opentelemetry.trace import Status, StatusCode

    for name, value in attributes.items():
        span.set_attribute(name.replace("__", "."), value)
    if error:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
    span.end()


@contextmanager
def step(name: str, kind: str, attributes: Mapping[str, str]) -> Iterator[None]:
    """A span around a block; nothing where the trace is not kept."""
    now = here.get()
    if now is None:
        yield
        return
    span = below(now, name, kind, attributes)
    try:
        yield
    except BaseException as error:
        end(span, type(error).__name__)
        raise
    end(span)


@contextmanager
def continued(given: str, name: str, kind: str, attributes: Mapping[str, str]) -> Iterator[Span | None]:
    """Background work that goes on with the trace of an event, in a task of its own."""
    found = TRACEPARENT.fullmatch(given)
    if found is None:
        yield None
        return
    traceparent.set(given)
    by = tracer.get()
    if by is None or not is_kept(given):
        yield None
        return
    span = begin(by, given, name, kind, attributes)
    enter(by, span)
    try:
        yield span
    except BaseException as error:
        end(span, type(error).__name__)
        raise
    end(span)


def _flags(text: str) -> TraceFlags:
    from opentelemetry.trace import TraceFlags

    return TraceFlags(int(text, 16))
