"""The breaker opens after failures in a row, tries one call at a time, and closes with the first answer."""

from __future__ import annotations

import pytest

from services.mesh.breaker import Breaker
from services.mesh.errors import Unavailable


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Time) -> Breaker:
    breaker = Breaker(clock, failures=3, window=10, pause=1)
    for _ in range(3):
        breaker.enter()
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    breaker = opened(Time())
    with pytest.raises(Unavailable):
        breaker.enter()


def test_an_answer_in_between_keeps_it_closed() -> None:
    breaker = Breaker(Time(), failures=3)
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
        breaker.enter()


def test_failures_far_apart_keep_it_closed() -> None:
    clock = Time()
    breaker = Breaker(clock, failures=3, window=10)
    for _ in range(10):
        breaker.failed()
        clock.now += 6
        breaker.enter()


def test_open_it_tries_one_call_in_a_pause() -> None:
    clock = Time()
    breaker = opened(clock)
    for _ in range(3):
        clock.now += 1
        breaker.enter()
        with pytest.raises(Unavailable):
            breaker.enter()
        breaker.failed()
    clock.now += 1
    breaker.enter()
    breaker.succeeded()
    breaker.enter()
    breaker.enter()
