"""The time, as an argument: what asks for it is given a Clock, so that tests can move it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

# Seconds since the epoch.
Clock = Callable[[], float]

system_clock: Clock = time.time


def moment(seconds: float) -> datetime:
    """An aware UTC datetime of seconds since the epoch."""
    return datetime.fromtimestamp(seconds, tz=UTC)
