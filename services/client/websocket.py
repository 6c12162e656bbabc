"""The live stream over a WebSocket, for where HTTP/2 streams do not get through."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from google.protobuf.message import DecodeError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Response

from sampan.messaging.v1 import frame_pb2
from services.client.errors import ChatError, SignedOut, Unreachable
from services.client.transport import Line, Transport

# A position that is longer than this has no room in an address: it goes into a frame.
_FITS = 4000
# One frame of the server, in bytes; it sends far smaller ones.
_MOST_BYTES = 16 << 20
# Seconds to open a connection, and for the server to answer that it is closed.
_OPEN, _CLOSE = 10.0, 1.0


class _WebSocketLine:
    """One connection, with frames in protobuf."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._frames: asyncio.Queue[frame_pb2.ConnectRequest] = asyncio.Queue()

    async def read(self) -> frame_pb2.Frame | None:
        try:
            message = await self._connection.recv()
            return frame_pb2.Frame.FromString(message) if isinstance(message, bytes) else None
        except (ConnectionClosed, DecodeError):
            return None

    def write(self, frame: frame_pb2.ConnectRequest) -> None:
        self._frames.put_nowait(frame)

    async def send(self) -> None:
        """Sends what is written, until the connection is gone."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._connection.send((await self._frames.get()).SerializeToString())


def over_websocket(target: str, context: ssl.SSLContext | None = None) -> Transport:
    """Streams as WebSockets of the edge at `host:port`; in the clear without a context."""
    scheme = "wss" if context else "ws"

    @asynccontextmanager
    async def line(hello: frame_pb2.Hello, token: str) -> AsyncIterator[Line]:
        fits = len(hello.resume) <= _FITS
        query = {"format": "protobuf", **(_asked(hello) if fits else {})}
        # The token goes into a header, where no log of a proxy looks for addresses.
        opening = connect(
            f"{scheme}://{target}/websocket?{urlencode(query)}",
            ssl=context,
            additional_headers={"authorization": f"Bearer {token}"},
            max_size=_MOST_BYTES,
            open_timeout=_OPEN,
            close_timeout=_CLOSE,
            proxy=None,
        )
        async with _opened(opening) as connection:
            found = _WebSocketLine(connection)
            if not fits:
                found.write(frame_pb2.ConnectRequest(hello=hello))
            sending = asyncio.create_task(found.send())
            try:
                yield found
            finally:
                sending.cancel()

    return line


def _asked(hello: frame_pb2.Hello) -> dict[str, str]:
    given = {"resume": hello.resume, "device_id": hello.device_id}
    return {name: value for name, value in given.items() if value}


@asynccontextmanager
async def _opened(opening: Any) -> AsyncIterator[ClientConnection]:
    """The connection. Raises ChatError when there is none to be had."""
    try:
        connection: ClientConnection = await opening
    except InvalidStatus as error:
        raise _refusal(error.response) from None
    except (OSError, TimeoutError, InvalidHandshake) as error:
        raise Unreachable("UNAVAILABLE", type(error).__name__) from None
    try:
        yield connection
    finally:
        await connection.close()


def _refusal(response: Response) -> ChatError:
    """Our error for an answer that is no WebSocket, with the reason of its problem+json."""
    said: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        parsed = json.loads(response.body or b"{}")
        said = parsed if isinstance(parsed, dict) else {}
    reason, detail = str(said.get("reason", "")), str(said.get("detail", ""))
    if response.status_code == 401:
        return SignedOut(reason or "UNAUTHENTICATED", detail)
    if response.status_code >= 500:
        return Unreachable(reason or "UNAVAILABLE", detail, _seconds(response))
    return ChatError(reason or f"HTTP_{response.status_code}", detail, _seconds(response))


def _seconds(response: Response) -> float | None:
    told = response.headers.get("retry-after", "")
    return float(told) if told.isdigit() else None
