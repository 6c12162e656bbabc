"""The client's side of one HTTP/2 connection, as far as load generators need it."""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from typing import cast

from services.stack.bench import wire
from services.stack.bench.wire import Target

# Seconds in which a connection must stand, and in which calls in flight must end.
PATIENCE = 10.0
# What has come is taken out of it before anybody else reads, so one serves all connections of the loop.
_ARRIVED = bytearray(128 * 1024)
_VIEW = memoryview(_ARRIVED)


class LoadError(Exception):
    """The other side broke the connection or the protocol."""


class Arriving(asyncio.BufferedProtocol, ABC):
    """Reads into one buffer: otherwise uvloop maps, faults in and unmaps 256 KiB for each read of TLS."""

    def get_buffer(self, _: int) -> memoryview:
        """Where the loop puts what comes."""
        return _VIEW

    def buffer_updated(self, nbytes: int) -> None:
        """So much has come."""
        self.data_received(bytes(_VIEW[:nbytes]))

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Takes what has come."""


class Connection(Arriving):
    """Cuts what comes into frames. Subclasses say what frames of a stream mean."""

    def __init__(self) -> None:
        self._rest = b""
        self._window = 65_535
        self._transport: asyncio.Transport
        self.broken: str = ""
        self.idle = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says hello."""
        # uvloop's own type, which is no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(wire.opening())

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any longer."""
        self.broken = self.broken or str(exc or "the server closed the connection")
        self.idle.set()

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()

    def fail(self, reason: str) -> None:
        """Ends it for a reason."""
        self.broken = self.broken or reason
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Takes whole frames; what is left waits for its rest."""
        buffer = self._rest + data if self._rest else data
        at, end = 0, len(buffer)
        while end - at >= wire.FRAME_HEAD:
            body = at + wire.FRAME_HEAD
            after = body + int.from_bytes(buffer[at : at + 3], "big")
            if after > end:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : body], "big")
            if stream:
                self._on_stream(kind, flags, stream, buffer, body, after)
            else:
                self._on_connection(kind, flags, buffer[body:after])
            at = after
        self._rest = buffer[at:]
        self._received()

    @abstractmethod
    def _on_stream(self, kind: int, flags: int, stream: int, buffer: bytes, body: int, after: int) -> None:
        """Takes a frame of a stream, which is `buffer` from `body` to `after`."""

    def _received(self) -> None:
        """All whole frames of a piece of data were taken."""

    def _on_connection(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == wire.SETTINGS and not flags & wire.ACK:
            self._transport.write(wire.frame(wire.SETTINGS, wire.ACK, 0, b""))
            self._settings(payload)
        elif kind == wire.PING and not flags & wire.ACK:
            self._transport.write(wire.frame(wire.PING, wire.ACK, 0, payload))
        elif kind == wire.WINDOW_UPDATE:
            self._window += int.from_bytes(payload, "big")
        elif kind == wire.GOAWAY:
            said = payload[8:].decode(errors="replace") or repr(payload)
            self.fail(f"the server ends the connection: {said}")

    def _settings(self, payload: bytes) -> None:
        """What the server allows."""


def context(target: Target) -> ssl.SSLContext | None:
    """TLS for a target that wants it."""
    if not target.ca:
        return None
    made = ssl.create_default_context(cafile=target.ca)
    made.load_cert_chain(target.certificate, target.key)
    made.set_alpn_protocols(["h2"])
    return made
