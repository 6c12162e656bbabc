"""The WebSocket of the small chat server: its Connect, behind an address as the edge has it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
from google.rpc import error_details_pb2, status_pb2
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from sampan.messaging.v1 import frame_pb2
from tests.support.chat_server import ChatServer

_HTTP = {grpc.StatusCode.UNAUTHENTICATED: 401, grpc.StatusCode.INVALID_ARGUMENT: 400}


class _Refused(Exception):
    """The server has said no."""

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.status = _HTTP.get(code, 503)
        self.reason = reason


class _Context:
    """As much of gRPC's as the server asks for."""

    def __init__(self, request: Request) -> None:
        self._metadata = tuple((name.lower(), value) for name, value in request.headers.raw_items())

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    async def abort_with_status(self, status: Any) -> None:
        info = error_details_pb2.ErrorInfo()
        details = dict(status.trailing_metadata)["grpc-status-details-bin"]
        status_pb2.Status.FromString(details).details[0].Unpack(info)
        raise _Refused(status.code, info.reason)


class _Door:
    """Takes connections."""

    def __init__(self, server: ChatServer) -> None:
        self._server = server
        self._streams: dict[ServerConnection, tuple[Any, frame_pb2.Frame]] = {}

    async def enter(self, connection: ServerConnection, request: Request) -> Response | None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
        assert query.pop("format") == "protobuf"
        hello = frame_pb2.ConnectRequest(hello=frame_pb2.Hello(**query))
        frames = self._server.Connect(_requests(connection, hello), _Context(request))  # type: ignore[arg-type]
        try:
            self._streams[connection] = (frames, await anext(frames))
        except _Refused as refused:
            return connection.respond(refused.status, json.dumps({"reason": refused.reason}))
        return None

    async def serve(self, connection: ServerConnection) -> None:
        frames, first = self._streams.pop(connection)
        gone = asyncio.create_task(connection.wait_closed())
        try:
            await connection.send(first.SerializeToString())
            while not gone.done():
                following = asyncio.ensure_future(anext(frames))
                await asyncio.wait((following, gone), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    break
                await connection.send(following.result().SerializeToString())
        except _Refused:
            # A stream that breaks off.
            connection.transport.abort()
        except (ConnectionClosed, StopAsyncIteration):
            pass
        finally:
            with contextlib.suppress(RuntimeError):
                await frames.aclose()


async def _requests(
    connection: ServerConnection, hello: frame_pb2.ConnectRequest
) -> AsyncIterator[frame_pb2.ConnectRequest]:
    yield hello
    async for message in connection:
        assert isinstance(message, bytes)
        yield frame_pb2.ConnectRequest.FromString(message)


@asynccontextmanager
async def serving_websocket(server: ChatServer) -> AsyncIterator[str]:
    """Its address."""
    door = _Door(server)
    async with serve(door.serve, "127.0.0.1", 0, process_request=door.enter) as listener:
        host, port = next(iter(listener.sockets)).getsockname()
        yield f"{host}:{port}"
