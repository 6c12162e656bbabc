"""Structured logs: one JSON object a line on stderr, with the trace id where there is one."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict

from services.mesh import trace

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def add_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Says the trace that present work belongs to, where the line does not say it itself."""
    if "trace_id" not in event and (given := trace.traceparent.get()):
        event["trace_id"] = trace.trace_id(given)
    return event


def configure(process: str, level: str) -> None:
    """Sets up logging of this process, that of libraries included. Call once, before anything logs."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format='{"level":"%(levelname)s","logger":"%(name)s"}'
    )


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger that carries the name of the part."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return bound
