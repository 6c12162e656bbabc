"""Names on the bus, without the bus: the stack reads them, too."""

from __future__ import annotations


def stream_of(context: str) -> str:
    """The stream of what a context publishes."""
    return f"SAMPAN_{context.upper()}"


def inbox_of(service: str) -> str:
    """Where a service's answers come to; nobody else may listen there."""
    return f"_INBOX.{service}"
