"""Is the server there? Probes without credentials: each asks the least that shows a working main loop."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine
from typing import Any

TIMEOUT = 2.0
# Length 8, then the code that asks whether TLS is offered; answered with one byte before any login.
POSTGRES_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
REDIS_PING = b"*1\r\n$4\r\nPING\r\n"

Probe = Callable[[str, int], Coroutine[Any, Any, bool]]


async def ask(host: str, port: int, question: bytes, enough: int, timeout: float) -> bytes:
    """Sends `question` and returns the first bytes of the answer; empty when there is none in time."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(question)
                return await reader.readexactly(enough)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return b""


async def postgres(host: str, port: int, timeout: float = TIMEOUT) -> bool:
    return await ask(host, port, POSTGRES_SSL_REQUEST, 1, timeout) in (b"N", b"S")


async def redis(host: str, port: int, timeout: float = TIMEOUT) -> bool:
    """True when PING is answered, be it by asking for a password. A server still loading says -LOADING."""
    return await ask(host, port, REDIS_PING, 5, timeout) in (b"+PONG", b"-NOAU")


async def nats(host: str, port: int, timeout: float = TIMEOUT) -> bool:
    return await ask(host, port, b"", 5, timeout) == b"INFO "


PROBES: dict[str, Probe] = {"postgres": postgres, "redis": redis, "nats": nats}
