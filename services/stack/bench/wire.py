"""Just enough HTTP/2 to drive unary calls: requests are bytes made beforehand, answers are counted, not read.

A client library in Python costs more for each call than the server that it is to measure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
FRAME_HEAD = 9
# `:status: 200` in HPACK's static table (RFC 7541, appendix A).
STATUS_200 = 0x88

_LITERAL_INDEXED = 0x40
_INDEXED = 0x80
_STATIC_ENTRIES = 61
INITIAL_WINDOW, _HEADER_TABLE = 4, 4096
_LARGE_WINDOW = 0x3FFF_FFFF

# In its place each call puts 16 hexadecimal digits that no other has: when it was sent.
STAMP = b"################"

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Target:
    """One call to repeat. `body` is the whole message with gRPC's prefix; empty for a GET.

    Each connection signs in as another of `tokens`, and has another of `bodies` when there are any. `held`: a
    stream that the client keeps open; of `messages` each connection sends another one over it. TLS when there
    is a `ca`; `server_name` is what the certificate must prove. Paths are of PEM files.
    """

    name: str
    host: str
    port: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    tokens: tuple[str, ...] = ()
    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    bodies: tuple[bytes, ...] = ()
    held: bool = False
    messages: tuple[bytes, ...] = ()


def grpc_headers(scheme: str, authority: str, path: str) -> tuple[tuple[str, str], ...]:
    """Headers of a gRPC call."""
    return (
        (":method", "POST"),
        (":scheme", scheme),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "sampan-bench"),
    )


def rest_headers(authority: str, path: str) -> tuple[tuple[str, str], ...]:
    """Headers of a GET."""
    return (
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("accept", "application/json"),
        ("user-agent", "sampan-bench"),
    )


def headers_of(target: Target, connection: int) -> Headers:
    """All headers that a connection of a target sends."""
    if not target.tokens:
        return target.headers
    token = target.tokens[connection % len(target.tokens)]
    return (*target.headers, ("authorization", f"Bearer {token}"))


def body_of(target: Target, connection: int) -> bytes:
    """The message of a connection of a target."""
    return target.bodies[connection % len(target.bodies)] if target.bodies else target.body


def message_of(target: Target, connection: int) -> bytes:
    """What a connection sends over its held stream."""
    return target.messages[connection % len(target.messages)]


class _Clock:
    """Nanoseconds, no two alike."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = max(self._last + 1, time.perf_counter_ns())
        return self._last


_clock = _Clock()


def stamped(body: bytes) -> bytes:
    """The body with the time in place of the stamp."""
    return body.replace(STAMP, b"%016x" % _clock.next())


def grpc_message(message: bytes) -> bytes:
    """A message with gRPC's prefix, uncompressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def opening() -> bytes:
    """What a client says first: windows so large that they are never the limit."""
    settings = INITIAL_WINDOW.to_bytes(2, "big") + _LARGE_WINDOW.to_bytes(4, "big")
    return (
        PREFACE
        + frame(SETTINGS, 0, 0, settings)
        + frame(WINDOW_UPDATE, 0, 0, _LARGE_WINDOW.to_bytes(4, "big"))
    )


def _integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541, 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    out = bytearray((first | most,))
    value -= most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    out.append(value)
    return bytes(out)


def _text(value: str) -> bytes:
    raw = value.encode("ascii")
    return _integer(len(raw), 7, 0) + raw


def first_block(headers: Headers) -> bytes:
    """Headers as a connection's first request says them: in full, to be remembered by the server."""
    return b"".join(bytes((_LITERAL_INDEXED,)) + _text(name) + _text(value) for name, value in headers)


def later_block(headers: Headers) -> bytes:
    """The same headers as references to what the server remembers, as real clients send them."""
    count = len(headers)
    return b"".join(_integer(_STATIC_ENTRIES + count - at, 7, _INDEXED) for at in range(count))


def table_size(headers: Headers) -> int:
    """What remembering takes; more than 4096 and the server forgets the first."""
    return sum(len(name) + len(value) + 32 for name, value in headers)


class Request:
    """Makes the bytes of one call after another."""

    def __init__(self, headers: Headers, body: bytes, *, held: bool = False) -> None:
        if table_size(headers) > _HEADER_TABLE:
            raise ValueError("the headers do not fit into the server's table")
        self._first = first_block(headers)
        self._later = later_block(headers)
        self._head_flags = END_HEADERS | (0 if body else END_STREAM)
        self._head = frame(HEADERS, self._head_flags, 0, self._later)[:5]
        self._data = frame(DATA, 0 if held else END_STREAM, 0, body)[:5]
        self._body = body
        self._stamped = STAMP in body
        self.size = len(body)

    def opening(self, stream: int) -> bytes:
        """The first call of a connection."""
        return frame(HEADERS, self._head_flags, stream, self._first) + self._tail(stream.to_bytes(4, "big"))

    def bytes_of(self, stream: int) -> bytes:
        """Any later call."""
        number = stream.to_bytes(4, "big")
        if not self._body:
            return self._head + number + self._later
        body = stamped(self._body) if self._stamped else self._body
        return self._head + number + self._later + self._data + number + body

    def _tail(self, number: bytes) -> bytes:
        if not self._body:
            return b""
        return self._data + number + (stamped(self._body) if self._stamped else self._body)
