"""Pulls events of one durable consumer: what is there at once, or what comes first.

One question to JetStream stands at a time, and ends with its last event or with a status of its own. The
client library's `fetch` takes the late end of an earlier question for an answer to its next one, asks twice,
and then keeps events to itself as long as the second question stands (nats.py, issues 933 and 986).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import Header, StatusCode
from nats.js.errors import APIError

from services.mesh.bus import Bus

# The server's own end of a question may come late by this, in seconds.
_LATE = 5.0
# More events of an answer, or its end, follow each other within this, in seconds.
_FOLLOWS = 0.05
# Ends of a question that say nothing of its consumer.
_ENDS = (StatusCode.NO_MESSAGES, StatusCode.REQUEST_TIMEOUT)


class Pull:
    """Asks a consumer in one connection, `most` events at once. A question stands for `seconds`."""

    def __init__(
        self, bus: Bus, subject: str, place: str, answers: Subscription, *, most: int, seconds: float
    ) -> None:
        self._bus = bus
        self._subject = subject
        self._place = place
        self._answers = answers
        self._most = most
        self._seconds = seconds
        self._numbers = count(1)
        self._reply = ""
        # Events that the question which stands may still bring; none when none stands.
        self._left = 0
        # Until then it cannot have run out.
        self._stands_until = 0.0

    async def next(self) -> list[Msg]:
        """The next events; none when there was none for a while. Raises one of BUS_ERRORS."""
        if not self._left:
            await self._ask()
        found: list[Msg] = []
        while self._left:
            try:
                one = await self._answers.next_msg(_FOLLOWS if found else self._seconds + _LATE)
            except nats.errors.TimeoutError:
                if found:
                    # The question stands: what else it brings is asked for next time.
                    break
                raise
            if not (one.headers or {}).get(Header.STATUS):
                found.append(one)
                self._left -= 1
            elif one.subject == self._reply:
                self._left = 0
                if not found:
                    self._ended(one)
        return found

    async def _ask(self) -> None:
        """Ends at the end of the stream, but not before the first event: that is waited for."""
        self._reply = f"{self._place}.{next(self._numbers)}"
        question = {"batch": self._most, "no_wait": True, "expires": int(self._seconds * 1e9)}
        await self._bus.say(self._subject, json.dumps(question).encode(), self._reply)
        self._left = self._most
        self._stands_until = asyncio.get_running_loop().time() + self._seconds / 2

    def _ended(self, status: Msg) -> None:
        """Raises when a question ended for another reason than that nothing came in its time."""
        in_time = asyncio.get_running_loop().time() >= self._stands_until
        if not in_time or (status.headers or {})[Header.STATUS] not in _ENDS:
            APIError.from_msg(status)


@asynccontextmanager
async def pulling(bus: Bus, stream: str, consumer: str, *, most: int, seconds: float) -> AsyncIterator[Pull]:
    """Asks a consumer of a stream as long as the block runs."""
    place, answers = await bus.answers()
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
    try:
        yield Pull(bus, subject, place, answers, most=most, seconds=seconds)
    finally:
        if bus.is_connected:
            await answers.unsubscribe()
