"""The least of an HTTP client: one GET over loopback, for the start's last question."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

LIMIT = 65_536


async def get(
    host: str, port: int, path: str, timeout: float = 2.0, *, trusted: Path | None = None
) -> tuple[int, str]:
    """Status and body; status 0 when there was no answer in time. TLS if a certificate to trust is named."""
    request = f"GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, ssl=context(trusted))
            try:
                writer.write(request.encode())
                answer = await read_all(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0, ""
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    words = head.split(" ", 2)
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), body.strip()


def context(trusted: Path | None) -> ssl.SSLContext | None:
    """Accepts the one certificate named, whatever host it is for: it is our own."""
    if trusted is None:
        return None
    made = ssl.create_default_context(cafile=str(trusted))
    made.check_hostname = False
    return made


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Until the end, or until there is more than anyone wants."""
    answer = b""
    while len(answer) < LIMIT and (piece := await reader.read(LIMIT)):
        answer += piece
    return answer
