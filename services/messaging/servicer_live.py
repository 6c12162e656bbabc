"""proto <-> live delivery: Subscribe, Connect, AckEvents."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.errors import InvalidArgument, RequestTooLarge
from services.messaging.live.inbound import Desk, Inbound
from services.messaging.live.opening import Opening
from services.messaging.live.stream import Session

Requests = AsyncIterator[frame_pb2.ConnectRequest]


class LiveMethods:
    """Methods of sampan.messaging.v1.MessagingService that are about live delivery.

    A client of Connect that says nothing for `hello_seconds` gets a stream that is live from then on.
    """

    def __init__(self, opening: Opening, desk: Desk, *, hello_seconds: float) -> None:
        self._opening = opening
        self._desk = desk
        self._hello_seconds = hello_seconds

    async def Subscribe(self, request: pb.SubscribeRequest, call: Call) -> AsyncIterator[bytes]:
        session = await self._opening.open(call.require_user(), request.resume, request.device_id)
        try:
            async for frame in session:
                yield frame
        finally:
            session.close()

    async def Connect(self, requests: Requests, call: Call) -> AsyncIterator[bytes]:
        reading = asyncio.ensure_future(_next(requests))
        try:
            session = await self._greet(reading, call)
        except BaseException:
            reading.cancel()
            raise
        inbound = Inbound(self._desk, session, call)
        reader = asyncio.ensure_future(_read(reading, requests, inbound))
        try:
            async for frame in session:
                yield frame
        finally:
            session.close()
            inbound.close()
            reader.cancel()

    async def _greet(self, reading: asyncio.Future[frame_pb2.ConnectRequest | None], call: Call) -> Session:
        """Waits a little for a hello, and opens the stream."""
        hello = frame_pb2.Hello()
        await asyncio.wait((reading,), timeout=self._hello_seconds)
        if reading.done() and reading.exception() is None:
            first = reading.result()
            if first is not None and first.HasField("hello"):
                hello = first.hello
        return await self._opening.open(call.require_user(), hello.resume, hello.device_id)


async def _next(requests: Requests) -> frame_pb2.ConnectRequest | None:
    """The next frame; None when the client has said all it has to say."""
    return await anext(requests, None)


async def _read(
    reading: asyncio.Future[frame_pb2.ConnectRequest | None], requests: Requests, inbound: Inbound
) -> None:
    """Hands over frame by frame, until the client has no more or one is bad."""
    with contextlib.suppress(asyncio.CancelledError):
        try:
            frame = await reading
            if frame is not None and frame.HasField("hello"):
                inbound.greeted(frame.ref)
                frame = await _next(requests)
            while frame is not None:
                await inbound.receive(frame)
                frame = await _next(requests)
        except (InvalidArgument, RequestTooLarge) as error:
            inbound.refuse(error.detail)
