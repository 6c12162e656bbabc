"""Many long streams on a connection: listening, or sending over them. What comes is searched, not parsed.

A message carries when it was sent: `@@bench:` and 16 hexadecimal digits begin its text, and `@@reply:` the
`ref` of a frame of Connect. Finding them in the bytes is all that an event costs here.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable

from services.stack.bench import wire
from services.stack.bench.connection import Connection
from services.stack.bench.wire import Target

_EVENT = re.compile(rb"@@bench:([0-9a-f]{16})")
# After the ref comes the message that was kept; anything else is a refusal.
_REPLY = re.compile(rb"@@reply:([0-9a-f]{16})(.)", re.DOTALL)
_KEPT = b"\x22"
_LONGEST = 25
# Receiving windows are a gigabyte; they are opened again long before.
_REOPEN = 1 << 28


def stamps(data: bytes) -> list[bytes]:
    """When the messages in it were sent."""
    return _EVENT.findall(data)


def refusals(data: bytes) -> int:
    """How many of its replies are refusals."""
    return sum(reply[2] != _KEPT for reply in _REPLY.finditer(data))


class Tally:
    """What came over all connections of a load: latencies in seconds, from when a message was sent."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.total = 0
        self.failures = 0
        self.progress: Callable[[], None] = lambda: None

    def add(self, stamps: list[bytes]) -> None:
        """Messages that came just now."""
        now = time.perf_counter_ns()
        self.total += len(stamps)
        self.latencies += [(now - int(stamp, 16)) / 1e9 for stamp in stamps]

    def reset(self) -> None:
        """Forgets what was measured; `total` goes on."""
        self.latencies = []
        self.failures = 0


class Listener(Connection):
    """Streams of one person: `asked` for, and `opened` when they have had an answer."""

    def __init__(self, target: Target, number: int, tally: Tally) -> None:
        super().__init__()
        self._request = wire.Request(
            wire.headers_of(target, number), wire.body_of(target, number), held=target.held
        )
        self._tally = tally
        self._next_stream = 1
        self._tails: dict[int, bytes] = {}
        self._unanswered: set[int] = set()
        self._taken = 0
        self._came = 0
        self.opened = 0
        self.asked = 0

    def open(self, count: int) -> None:
        """Opens so many more."""
        for _ in range(count):
            self.asked += 1
            stream = self._next_stream
            self._next_stream = stream + 2
            self._unanswered.add(stream)
            first = stream == 1
            made = self._request.opening(stream) if first else self._request.bytes_of(stream)
            self._window -= self._request.size
            self._transport.write(made)

    def _on_stream(self, kind: int, flags: int, stream: int, buffer: bytes, body: int, after: int) -> None:
        if kind == wire.DATA:
            self._on_data(stream, buffer, body, after)
        elif kind == wire.WINDOW_UPDATE:
            self._on_room(stream, int.from_bytes(buffer[body:after], "big"))
        if kind == wire.RST_STREAM or (flags & wire.END_STREAM and kind in (wire.DATA, wire.HEADERS)):
            self.fail("the server ended a stream: are so many allowed?")

    def _on_data(self, stream: int, buffer: bytes, body: int, after: int) -> None:
        if stream in self._unanswered:
            self._unanswered.discard(stream)
            self.opened += 1
        tail = self._tails.get(stream, b"")
        data = tail + buffer[body:after] if tail else buffer[body:after]
        done = self._search(stream, data)
        self._tails[stream] = data[max(done, len(data) - _LONGEST + 1) :]
        self._taken += after - body
        if self._taken > _REOPEN:
            self._transport.write(wire.frame(wire.WINDOW_UPDATE, 0, 0, self._taken.to_bytes(4, "big")))
            self._taken = 0

    def _search(self, stream: int, data: bytes) -> int:
        """Finds what is whole in the data; how far it reaches."""
        found = stamps(data)
        if not found:
            return 0
        self._tally.add(found)
        return data.rindex(found[-1]) + 16

    def _on_room(self, stream: int, more: int) -> None:
        """A stream may send more."""

    def _received(self) -> None:
        if self._tally.total != self._came:
            self._came = self._tally.total
            self._tally.progress()


class Talker(Listener):
    """One stream of Connect: keeps messages in flight on it, or sends some at once."""

    def __init__(self, target: Target, number: int, tally: Tally) -> None:
        super().__init__(target, number, tally)
        self._message = wire.message_of(target, number)
        self._room = 65_535
        self._initial = 65_535
        self._waiting: deque[bytes] = deque()
        self._running = False
        self.latencies: list[float] = []
        self.failures = 0
        self.in_flight = 0
        self.sample = b""

    def start(self, in_flight: int) -> None:
        """Keeps so many in flight until `stop`."""
        self._running = True
        self.burst(in_flight)

    def stop_sending(self) -> None:
        """Sends no more."""
        self._running = False
        if not self.in_flight:
            self.idle.set()

    def burst(self, count: int) -> None:
        """Sends so many at once."""
        self.in_flight += count
        self.idle.clear()
        self._waiting.extend(wire.stamped(self._message) for _ in range(count))
        self._flush()

    def reset(self) -> None:
        """Forgets what was counted."""
        self.latencies = []
        self.failures = 0

    def _search(self, stream: int, data: bytes) -> int:
        done = super()._search(stream, data)
        replies = list(_REPLY.finditer(data))
        if not replies:
            return done
        now = time.perf_counter_ns()
        for reply in replies:
            if reply[2] == _KEPT:
                self.latencies.append((now - int(reply[1], 16)) / 1e9)
            else:
                self.failures += 1
        self.sample = self.sample or data
        self.in_flight -= len(replies)
        if self._running:
            self.burst(len(replies))
        elif not self.in_flight:
            self.idle.set()
        return max(done, replies[-1].end())

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            if int.from_bytes(payload[at : at + 2], "big") == wire.INITIAL_WINDOW:
                initial = int.from_bytes(payload[at + 2 : at + 6], "big")
                self._room += initial - self._initial
                self._initial = initial
        self._flush()

    def _on_room(self, stream: int, more: int) -> None:
        self._room += more
        self._flush()

    def _received(self) -> None:
        super()._received()
        self._flush()

    def _flush(self) -> None:
        """Sends what the server has room for."""
        out = []
        while self._waiting and len(self._waiting[0]) <= min(self._room, self._window):
            body = self._waiting.popleft()
            self._room -= len(body)
            self._window -= len(body)
            out.append(wire.frame(wire.DATA, 0, 1, body))
        if out:
            self._transport.write(b"".join(out))
