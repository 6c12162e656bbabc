"""How frames get to the server and back: a line for each stream, here over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import grpc

from sampan.messaging.v1 import frame_pb2
from services.client.calls import bearer
from services.client.errors import understood


class Line(Protocol):
    """One stream that is being opened or is open."""

    async def read(self) -> frame_pb2.Frame | None:
        """The next frame; None when the other side ended it. Raises ChatError."""
        ...

    def write(self, frame: frame_pb2.ConnectRequest) -> None:
        """Sends a frame; it may get lost with the stream. Never waits."""
        ...


# Opens a line with an access token; it is closed at the end of the block. Raises ChatError.
Transport = Callable[[frame_pb2.Hello, str], AbstractAsyncContextManager[Line]]


class _GrpcLine:
    """A call of Connect."""

    def __init__(self, call: Any, frames: asyncio.Queue[frame_pb2.ConnectRequest | None]) -> None:
        self._call = call
        self._frames = frames

    async def read(self) -> frame_pb2.Frame | None:
        try:
            frame = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise understood(error) from None
        return frame if isinstance(frame, frame_pb2.Frame) else None

    def write(self, frame: frame_pb2.ConnectRequest) -> None:
        self._frames.put_nowait(frame)


def over_grpc(connect: Callable[..., Any]) -> Transport:
    """Streams as calls of a stub's Connect."""

    @asynccontextmanager
    async def line(hello: frame_pb2.Hello, token: str) -> AsyncIterator[Line]:
        frames: asyncio.Queue[frame_pb2.ConnectRequest | None] = asyncio.Queue()
        frames.put_nowait(frame_pb2.ConnectRequest(hello=hello))
        call = connect(_taken(frames), metadata=bearer(token))
        try:
            yield _GrpcLine(call, frames)
        finally:
            call.cancel()
            # Ends the task in which gRPC reads requests.
            frames.put_nowait(None)

    return line


async def _taken(
    frames: asyncio.Queue[frame_pb2.ConnectRequest | None],
) -> AsyncIterator[frame_pb2.ConnectRequest]:
    while (frame := await frames.get()) is not None:
        yield frame
