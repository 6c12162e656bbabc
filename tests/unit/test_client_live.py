"""The client's live stream ends when it is told to, whatever comes at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sampan.messaging.v1 import frame_pb2, message_pb2
from services.client.live import LiveStream, Timing
from services.client.outgoing import Outgoing
from services.client.transport import Line


class Token:
    """Always the same."""

    user_id = "somebody"

    async def token(self, *, instead_of: str = "") -> str:
        return "token"


class OneLine:
    """A line on which the test says when a frame comes."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.frame: asyncio.Future[frame_pb2.Frame] = asyncio.get_running_loop().create_future()

    async def read(self) -> frame_pb2.Frame | None:
        self.reading.set()
        frame = await self.frame
        self.frame = asyncio.get_running_loop().create_future()
        return frame

    def write(self, frame: frame_pb2.ConnectRequest) -> None:
        """Nobody reads it."""


async def never(send: frame_pb2.Send) -> message_pb2.Message:
    raise AssertionError(send)


async def test_a_frame_that_comes_while_it_is_ended_does_not_keep_it_alive() -> None:
    line = OneLine()

    @asynccontextmanager
    async def transport(hello: frame_pb2.Hello, token: str) -> AsyncIterator[Line]:
        yield line

    live = LiveStream(
        transport, Token(), Outgoing(never), device_id="", resume="", strict=False, timing=Timing()
    )
    running = asyncio.create_task(live.run())
    await line.reading.wait()
    line.frame.set_result(frame_pb2.Frame(heartbeat=frame_pb2.Heartbeat()))
    # The frame has come, and is not yet taken.
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await running
