"""The live stream: opened, held, and opened again where it broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from sampan.messaging.v1 import frame_pb2
from services.client.backoff import Backoff
from services.client.calls import TokenProvider, bearer
from services.client.errors import ChatError, OrderBroken, SignedOut, StreamRefused, Unreachable, understood
from services.client.order import Order
from services.client.outgoing import Outgoing
from services.client.updates import BegunAnew, Lost

# The server's word that the position kept is of no use.
_NOT_FROM_THERE = frozenset(("RESUME_TOKEN_INVALID", "RESUME_TOKEN_AHEAD"))
# Reasons of an `end` after which another access token helps.
_NEW_TOKEN = frozenset(
    ("TOKEN_EXPIRED", "TOKEN_INVALID", "TOKEN_MISSING", "SESSION_ENDED", "UNAUTHENTICATED")
)

Item = frame_pb2.Frame | Lost | BegunAnew | Exception


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. A stream is dead after `silence` without a frame; the server's heartbeat comes every 15."""

    silence: float = 40.0
    first_wait: float = 0.2
    longest_wait: float = 10.0


class LiveStream:
    """Puts frames into `inbox`, each once and in order, over as many streams as it takes.

    Goes on from the last frame received. What ends it for good is put there as an exception.
    """

    def __init__(
        self,
        connect: Callable[..., Any],
        tokens: TokenProvider,
        outgoing: Outgoing,
        *,
        device_id: str,
        resume: str,
        strict: bool,
        timing: Timing,
        most_frames: int = 1000,
    ) -> None:
        self.inbox: asyncio.Queue[Item] = asyncio.Queue(most_frames)
        self._connect = connect
        self._tokens = tokens
        self._outgoing = outgoing
        self._device_id = device_id
        self._resume = resume
        self._order = Order() if strict else None
        self._timing = timing
        self._backoff = Backoff(timing.first_wait, timing.longest_wait)
        self._frames: asyncio.Queue[frame_pb2.ConnectRequest | None] | None = None
        # An access token that was refused, and whether the position was; both until a frame comes.
        self._refused = ""
        self._anew = False

    def write(self, frame: frame_pb2.ConnectRequest) -> bool:
        """Sends a frame when there is a stream; whether there is one."""
        if self._frames is None:
            return False
        self._frames.put_nowait(frame)
        return True

    async def run(self) -> None:
        """Until it is cancelled, or there is no going on."""
        try:
            while True:
                await self._once()
        except (ChatError, OrderBroken) as error:
            await self.inbox.put(error)

    async def _once(self) -> None:
        token = ""
        try:
            token = await self._tokens.token(instead_of=self._refused)
            await self._stream(token)
        except SignedOut as error:
            # A session that ended is begun anew once; without any token there is nothing to try with.
            if self._refused or not token:
                raise
            self._refused = token
            self._backoff.wait(error.retry_after)
        except ChatError as error:
            await self._after(error)

    async def _after(self, error: ChatError) -> None:
        if error.reason in _NOT_FROM_THERE and not self._anew:
            self._resume, self._anew = "", True
            if self._order is not None:
                self._order.forget()
            await self.inbox.put(BegunAnew(error.reason))
            return
        if not error.passing and not error.retry_after:
            raise StreamRefused(error.reason, error.detail) from None
        wait = self._backoff.wait(error.retry_after)
        await self.inbox.put(Lost(error.reason, error.detail, wait))
        await asyncio.sleep(wait)

    async def _stream(self, token: str) -> None:
        """One stream, to its end. Always raises ChatError or OrderBroken."""
        frames: asyncio.Queue[frame_pb2.ConnectRequest | None] = asyncio.Queue()
        hello = frame_pb2.Hello(resume=self._resume, device_id=self._device_id)
        frames.put_nowait(frame_pb2.ConnectRequest(hello=hello))
        if self._order is not None:
            self._order.restart()
        call = self._connect(_taken(frames), metadata=bearer(token))
        try:
            while True:
                frame = await self._next(call)
                if self._frames is None:
                    self._frames = frames
                    self._outgoing.up(frames.put_nowait)
                await self._take(frame)
        except grpc.aio.AioRpcError as error:
            raise understood(error) from None
        finally:
            self._frames = None
            self._outgoing.down()
            call.cancel()
            # Ends the task in which gRPC reads requests.
            frames.put_nowait(None)

    async def _next(self, call: Any) -> frame_pb2.Frame:
        try:
            frame = await asyncio.wait_for(call.read(), self._timing.silence)
        except TimeoutError:
            raise Unreachable("SILENCE", f"nothing came for {self._timing.silence:.0f} s") from None
        if not isinstance(frame, frame_pb2.Frame):
            # A server says why it ends a stream; a proxy on the way does not.
            raise Unreachable("STREAM_ENDED", "the stream ended without a word")
        return frame

    async def _take(self, frame: frame_pb2.Frame) -> None:
        if frame.HasField("end"):
            raise _ended(frame.end)
        self._refused, self._anew = "", False
        self._backoff.reset()
        for reply in frame.replies:
            self._outgoing.replied(reply)
        if self._order is not None:
            self._order.check(frame, self._tokens.user_id)
        self._resume = frame.resume or self._resume
        await self.inbox.put(frame)


def _ended(end: frame_pb2.End) -> ChatError:
    retry_after = end.retry_after_ms / 1000 if end.retry_after_ms else None
    if end.reason in _NEW_TOKEN:
        return SignedOut(end.reason, end.detail)
    return ChatError(end.reason, end.detail, retry_after)


async def _taken(
    frames: asyncio.Queue[frame_pb2.ConnectRequest | None],
) -> AsyncIterator[frame_pb2.ConnectRequest]:
    while (frame := await frames.get()) is not None:
        yield frame
