"""WebSockets: one that only listens, and one that sends over it."""

from __future__ import annotations

import asyncio
from typing import cast

from services.stack.bench import wire
from services.stack.bench.connection import PATIENCE, Arriving, LoadError
from services.stack.bench.streams import Tally, refusals, stamps
from services.stack.bench.wire import Target

_BINARY, _PING, _PONG = 0x82, 0x89, 0x8A
# Masked with zeros, which leaves what is said as it is.
_MASKED, _MASK = 0x80, b"\0\0\0\0"
# From here on a length stands for how long the true one is: two bytes, or eight with the next number.
_SHORT = 126
_SWITCHED = b"HTTP/1.1 101"
# What gRPC puts before a message, and a WebSocket does not.
_PREFIX = 5


class WebSocket(Arriving):
    """One connection: asks for the upgrade, waits for its first message, answers pings, drops the rest.

    `query` stands in the address: who says at once who they are need not be waited for.
    """

    def __init__(self, target: Target, number: int, query: str) -> None:
        path = dict(target.headers)[":path"]
        self._request = (
            f"GET {path}?{query} HTTP/1.1\r\n"
            f"host: {target.host}:{target.port}\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            "sec-websocket-version: 13\r\n"
            "sec-websocket-key: c2FtcGFuIGJlbmNobWFyaw==\r\n"
            f"authorization: Bearer {target.tokens[number % len(target.tokens)]}\r\n\r\n"
        ).encode()
        self._said = b""
        self._switched = False
        self._open = asyncio.Event()
        self._transport: asyncio.Transport
        self.broken = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any longer."""
        self.broken = self.broken or str(exc or "the server closed the connection")
        self._open.set()

    def data_received(self, data: bytes) -> None:
        """Opens with the first message after the answer."""
        self._said += data
        if not self._switched:
            head, end, after = self._said.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(_SWITCHED):
                self.broken = head.partition(b"\r\n")[0].decode(errors="replace")
                self._open.set()
                return
            self._switched, self._said = True, after
        self._take()

    async def answered(self) -> None:
        """Waits for the first message. Raises LoadError when it is refused."""
        async with asyncio.timeout(PATIENCE):
            await self._open.wait()
        if self.broken:
            raise LoadError(self.broken)

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()

    def _take(self) -> None:
        said, at = self._said, 0
        while len(said) >= at + 2:
            kind, size, body = said[at], said[at + 1], at + 2
            if size >= _SHORT:
                body += 2 if size == _SHORT else 8
                if len(said) < body:
                    break
                size = int.from_bytes(said[at + 2 : body], "big")
            if len(said) < body + size:
                break
            at = body + size
            self._on_frame(kind, said[body:at])
        self._said = said[at:]

    def _on_frame(self, kind: int, payload: bytes) -> None:
        if kind == _PING:
            self._transport.write(_frame(_PONG, payload))
            return
        self._open.set()
        self._on_message(payload)

    def _on_message(self, payload: bytes) -> None:
        """Something was said."""


class SocketTalker(WebSocket):
    """Sends messages at once, as protobuf, and counts all that come."""

    def __init__(self, target: Target, number: int, tally: Tally) -> None:
        super().__init__(target, number, "format=protobuf")
        self._message = wire.message_of(target, number)
        self._tally = tally
        self.failures = 0
        self.sample = b""

    def reset(self) -> None:
        """Forgets what was counted."""
        self.failures = 0

    def burst(self, count: int) -> None:
        """Sends so many at once."""
        said = (wire.stamped(self._message)[_PREFIX:] for _ in range(count))
        self._transport.write(b"".join(_frame(_BINARY, one) for one in said))

    def _on_message(self, payload: bytes) -> None:
        self.sample = self.sample or payload
        self._tally.add(stamps(payload))
        self.failures += refusals(payload)


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < _SHORT:
        length = bytes((_MASKED | size,))
    else:
        length = bytes((_MASKED | _SHORT,)) + size.to_bytes(2, "big")
    return b"".join((bytes((kind,)), length, _MASK, payload))
