"""proto <-> live delivery: Subscribe, Connect, AckEvents."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.errors import InvalidArgument, RequestTooLarge
from services.messaging.live.inbound import Desk, Inbound
from services.messaging.live.opening import Opening
from services.messaging.live.stream import Session

Requests = AsyncIterator[frame_pb2.ConnectRequest]
Shown = TypeVar("Shown")
# A hello that is sent at once is here after so many seconds.
_SAME_FLIGHT = 0.005


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

    def Connect(self, requests: Requests, call: Call) -> AsyncIterator[bytes]:
        return self._both_ways(requests, call, lambda session: session)

    def ConnectText(self, requests: Requests, call: Call) -> AsyncIterator[str]:
        """Connect for a door that shows frames as JSON."""
        return self._both_ways(requests, call, Session.texts)

    async def _both_ways(
        self, requests: Requests, call: Call, shown: Callable[[Session], AsyncIterator[Shown]]
    ) -> AsyncIterator[Shown]:
        reading = asyncio.ensure_future(_next(requests))
        try:
            session = await self._greet(reading, call)
        except BaseException:
            reading.cancel()
            raise
        inbound = Inbound(self._desk, session, call)
        reader = asyncio.ensure_future(_read(reading, requests, inbound))
        try:
            async for frame in shown(session):
                yield frame
        finally:
            session.close()
            inbound.close()
            reader.cancel()

    async def _greet(self, reading: asyncio.Future[frame_pb2.ConnectRequest | None], call: Call) -> Session:
        """Opens the stream where a hello says, if one comes soon; or else where it was when the call came."""
        user = call.require_user()
        await asyncio.wait((reading,), timeout=_SAME_FLIGHT)
        if reading.done():
            hello = _hello(reading)
            return await self._opening.open(user, hello.resume, hello.device_id)
        # What happens while we wait for a hello must not be missed by somebody who says none.
        session = await self._opening.open(user, "", "")
        try:
            await asyncio.wait((reading,), timeout=self._hello_seconds)
        except BaseException:
            session.close()
            raise
        hello = _hello(reading)
        if not hello.resume and not hello.device_id:
            return session
        session.close()
        return await self._opening.open(user, hello.resume, hello.device_id)


def _hello(reading: asyncio.Future[frame_pb2.ConnectRequest | None]) -> frame_pb2.Hello:
    """The hello that came first; an empty one when something else did, or nothing yet."""
    if reading.done() and reading.exception() is None:
        first = reading.result()
        if first is not None and first.HasField("hello"):
            return first.hello
    return frame_pb2.Hello()


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
