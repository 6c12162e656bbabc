"""The trace that the present call belongs to, for what is written down on the way and goes on later."""

from __future__ import annotations

from contextvars import ContextVar

# The W3C `traceparent` of the call in progress, or empty.
traceparent: ContextVar[str] = ContextVar("traceparent", default="")
