"""The live stream: opened, held, and opened again where it broke off."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sampan.messaging.v1 import frame_pb2
from services.client.backoff import Backoff
from services.client.calls import TokenProvider
from services.client.errors import ChatError, OrderBroken, SignedOut, StreamRefused, Unreachable
from services.client.order import Order
from services.client.outgoing import Outgoing
from services.client.transport import Line, Transport
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
        transport: Transport,
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
        self._transport = transport
        self._tokens = tokens
        self._outgoing = outgoing
        self._device_id = device_id
        self._resume = resume
        self._order = Order() if strict else None
        self._timing = timing
        self._backoff = Backoff(timing.first_wait, timing.longest_wait)
        self._line: Line | None = None
        # An access token that was refused, and whether the position was; both until a frame comes.
        self._refused = ""
        self._anew = False

    def write(self, frame: frame_pb2.ConnectRequest) -> bool:
        """Sends a frame when there is a stream; whether there is one."""
        if self._line is None:
            return False
        self._line.write(frame)
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
        hello = frame_pb2.Hello(resume=self._resume, device_id=self._device_id)
        if self._order is not None:
            self._order.restart()
        async with self._transport(hello, token) as line:
            try:
                while True:
                    frame = await self._next(line)
                    if self._line is None:
                        self._line = line
                        self._outgoing.up(line.write)
                    await self._take(frame)
            finally:
                self._line = None
                self._outgoing.down()

    async def _next(self, line: Line) -> frame_pb2.Frame:
        try:
            async with asyncio.timeout(self._timing.silence):
                frame = await line.read()
        except TimeoutError:
            raise Unreachable("SILENCE", f"nothing came for {self._timing.silence:.0f} s") from None
        if frame is None:
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
