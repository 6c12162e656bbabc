"""Token buckets: full at first, refilled with time, apart for each key."""

from __future__ import annotations

import pytest

from services.mesh.errors import RateLimited
from services.mesh.ratelimit import RateLimiter


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_is_full_at_first_and_says_when_there_is_room_again() -> None:
    clock = Time()
    limiter = RateLimiter(clock)
    for _ in range(3):
        limiter.take("m", "ann", 3, 60)
    with pytest.raises(RateLimited) as raised:
        limiter.take("m", "ann", 3, 60)
    assert raised.value.retry_after() == pytest.approx(20)
    assert raised.value.calls == 3
    clock.now += 20
    limiter.take("m", "ann", 3, 60)


def test_people_and_methods_are_apart() -> None:
    limiter = RateLimiter(Time())
    for name, key in (("m", "ann"), ("m", "ben"), ("n", "ann")):
        limiter.take(name, key, 1, 60)
        with pytest.raises(RateLimited):
            limiter.take(name, key, 1, 60)


def test_the_scale_multiplies_the_calls() -> None:
    limiter = RateLimiter(Time(), scale=5)
    for _ in range(5):
        limiter.take("m", "ann", 1, 60)
    with pytest.raises(RateLimited):
        limiter.take("m", "ann", 1, 60)


def test_a_flood_of_keys_does_not_grow_memory_and_the_freshest_are_kept() -> None:
    clock = Time()
    limiter = RateLimiter(clock, capacity=100)
    for number in range(1000):
        clock.now += 1
        limiter.take("m", str(number), 1, 1e9)
    with pytest.raises(RateLimited):
        limiter.take("m", "999", 1, 1e9)
    assert len(limiter._buckets) <= 100
