"""A WebSocket that only listens."""

from __future__ import annotations

import asyncio
from typing import cast

from services.stack.bench.connection import PATIENCE, LoadError
from services.stack.bench.wire import Target

_PING, _PONG = 0x89, 0x8A
# Masked with zeros, which leaves what is said as it is.
_MASKED, _MASK = 0x80, b"\0\0\0\0"
_SWITCHED = b"HTTP/1.1 101"


class WebSocket(asyncio.Protocol):
    """One connection: asks for the upgrade, waits for its first frame, answers pings, drops the rest."""

    def __init__(self, target: Target, number: int) -> None:
        path = dict(target.headers)[":path"]
        self._request = (
            # Who says at once who they are need not be waited for.
            f"GET {path}?device_id=socket-{number} HTTP/1.1\r\n"
            f"host: {target.host}:{target.port}\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            "sec-websocket-version: 13\r\n"
            "sec-websocket-key: c2FtcGFuIGJlbmNobWFyaw==\r\n"
            f"authorization: Bearer {target.tokens[number % len(target.tokens)]}\r\n\r\n"
        ).encode()
        self._said = b""
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
        """Opens with the first frame after the answer."""
        if self._open.is_set():
            # Pings come alone, on streams on which nothing else happens.
            if data[0] == _PING:
                self._transport.write(bytes((_PONG, _MASKED | data[1])) + _MASK + data[2 : 2 + data[1]])
            return
        self._said += data
        head, end, frames = self._said.partition(b"\r\n\r\n")
        if end and not head.startswith(_SWITCHED):
            self.broken = head.partition(b"\r\n")[0].decode(errors="replace")
            self._open.set()
        elif frames:
            self._open.set()

    async def answered(self) -> None:
        """Waits for the first frame. Raises LoadError when it is refused."""
        async with asyncio.timeout(PATIENCE):
            await self._open.wait()
        if self.broken:
            raise LoadError(self.broken)

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()
