"""proto <-> live delivery: Subscribe, Connect, AckEvents."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.errors import InvalidArgument, RequestTooLarge
from services.messaging.errors import FrameInvalid
from services.messaging.live import frames
from services.messaging.live.frames import Piece
from services.messaging.live.inbound import Desk, Inbound, check_size
from services.messaging.live.opening import Opening
from services.messaging.live.stream import Session

Requests = AsyncIterator[frame_pb2.ConnectRequest]
Shown = TypeVar("Shown")
# A hello that is sent at once is here after so many seconds.
_SAME_FLIGHT = 0.005
# Who has said nothing for so long is shown that the stream is open.
_PROMPT = 0.1


class LiveMethods:
    """Methods of sampan.messaging.v1.MessagingService that are about live delivery.

    A client of Connect that says nothing is soon told its heads, and after `hello_seconds` it is live.
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
        return self._both_ways(requests, call, frames.binary, lambda session: session)

    def ConnectText(self, requests: Requests, call: Call) -> AsyncIterator[str]:
        """Connect for a door that shows frames as JSON."""
        return self._both_ways(requests, call, frames.text, Session.texts)

    async def _both_ways(
        self,
        requests: Requests,
        call: Call,
        encoded: Callable[[Sequence[Piece], bytes], Shown],
        shown: Callable[[Session], AsyncIterator[Shown]],
    ) -> AsyncIterator[Shown]:
        reading = asyncio.ensure_future(_next(requests))
        try:
            session = await self._open(reading, call)
            if not reading.done():
                try:
                    yield encoded(session.greeting(), b"")
                    await asyncio.wait((reading,), timeout=self._hello_seconds)
                    if reading.done():
                        session = await self._moved(session, _hello(reading), call)
                except BaseException:
                    session.close()
                    raise
        except BaseException:
            reading.cancel()
            raise
        inbound = Inbound(self._desk, session, call)
        reader = asyncio.ensure_future(_read(reading, requests, inbound, late=not reading.done()))
        try:
            async for frame in shown(session):
                yield frame
        finally:
            session.close()
            inbound.close()
            reader.cancel()

    async def _open(self, reading: asyncio.Future[frame_pb2.ConnectRequest | None], call: Call) -> Session:
        """Opens the stream where a hello says, if one comes at once; or else where it was when the call came.

        Raises FrameInvalid when something comes that is no frame, and what `Opening.open` raises.
        """
        await asyncio.wait((reading,), timeout=_SAME_FLIGHT)
        if reading.done():
            hello = _hello(reading)
            return await self._opening.open(call.require_user(), hello.resume, hello.device_id)
        # What happens while we wait for a hello must not be missed by somebody who says none.
        session = await self._opening.open(call.require_user(), "", "")
        try:
            await asyncio.wait((reading,), timeout=_PROMPT)
            return await self._moved(session, _hello(reading), call) if reading.done() else session
        except BaseException:
            session.close()
            raise

    async def _moved(self, session: Session, hello: frame_pb2.Hello, call: Call) -> Session:
        """The stream of a hello that came when one was open already, of which no position was told."""
        if not _says(hello):
            return session
        session.close()
        return await self._opening.open(call.require_user(), hello.resume, hello.device_id)


def _hello(reading: asyncio.Future[frame_pb2.ConnectRequest | None]) -> frame_pb2.Hello:
    """The hello that came first; an empty one when it was something else. Raises FrameInvalid."""
    try:
        first = reading.result()
    except (InvalidArgument, RequestTooLarge) as error:
        raise FrameInvalid(error.detail, violations=error.violations) from error
    if first is None:
        return frame_pb2.Hello()
    check_size(first)
    return first.hello


async def _next(requests: Requests) -> frame_pb2.ConnectRequest | None:
    """The next frame; None when the client has said all it has to say."""
    return await anext(requests, None)


async def _read(
    reading: asyncio.Future[frame_pb2.ConnectRequest | None],
    requests: Requests,
    inbound: Inbound,
    *,
    late: bool,
) -> None:
    """Hands over frame by frame, until the client has no more or one is bad.

    When it is `late` the stream has begun without what a hello says, so that must not pass for done.
    """
    with contextlib.suppress(asyncio.CancelledError):
        try:
            frame = await reading
            if frame is not None and frame.HasField("hello") and not (late and _says(frame.hello)):
                inbound.greeted(frame.ref)
                frame = await _next(requests)
            if frame is not None:
                waiting = inbound.receive(frame)
                if waiting is not None:
                    await waiting
                # Not by `_next`: what comes goes through every layer on its way.
                async for following in requests:
                    while not inbound.has_turn():
                        await asyncio.sleep(0)
                    waiting = inbound.receive(following)
                    if waiting is not None:
                        await waiting
        except (InvalidArgument, RequestTooLarge) as error:
            inbound.refuse(error.detail)


def _says(hello: frame_pb2.Hello) -> bool:
    """Whether a hello says anything."""
    return bool(hello.resume or hello.device_id)
