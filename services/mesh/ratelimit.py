"""Token buckets for the limits that the contract states, as one process counts them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from services.mesh.clock import Clock
from services.mesh.errors import RateLimited


class Limiter(Protocol):
    """What the chain asks whether there is room for one more call."""

    def take(self, name: str, key: str, calls: int, seconds: float) -> Awaitable[None] | None:
        """Takes one token of the bucket of `calls` in `seconds`. Raises RateLimited, or the awaitable does.

        None when it was taken at once; else the awaitable must be awaited.
        """


class _Bucket:
    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at


class RateLimiter:
    """Buckets in this process, one for each key.

    At most `capacity` buckets are kept; over it the half that was used longest ago goes.
    """

    def __init__(self, clock: Clock, *, scale: float = 1.0, capacity: int = 100_000) -> None:
        self._clock = clock
        self._scale = scale
        self._capacity = capacity
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def take(self, name: str, key: str, calls: int, seconds: float) -> None:
        """Takes one token. Raises RateLimited with the time until the next when there is none."""
        now = self._clock()
        size = max(1.0, calls * self._scale)
        rate = size / seconds
        bucket = self._buckets.get((name, key))
        if bucket is None:
            if len(self._buckets) >= self._capacity:
                self._forget()
            bucket = self._buckets[(name, key)] = _Bucket(size, now)
        else:
            bucket.tokens = min(size, bucket.tokens + (now - bucket.at) * rate)
            bucket.at = now
        if bucket.tokens < 1.0:
            raise RateLimited(calls=int(size), seconds=(1.0 - bucket.tokens) / rate)
        bucket.tokens -= 1.0

    def _forget(self) -> None:
        """A flood of new keys must not grow memory."""
        by_age = sorted(self._buckets.items(), key=lambda item: item[1].at)
        for key, _ in by_age[: self._capacity // 2]:
            del self._buckets[key]
