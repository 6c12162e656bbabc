"""Devices at live doors as clients know them: they collect frames and can come back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

import grpc
import httpx
from websockets.exceptions import ConnectionClosed

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1.messaging_service_pb2_grpc import MessagingServiceStub
from tests.support import http as plain
from tests.support.chat import Talker
from tests.support.clients import Clients, Person
from tests.support.live import Device
from tests.support.stack import Stack

# What a client that comes back by itself takes for "try again".
_AGAIN = frozenset(
    (
        "UNAVAILABLE",
        "DRAINING",
        "DEADLINE_EXCEEDED",
        "INTERNAL",
        "OVERLOADED",
        "TOO_MANY_STREAMS",
        "NO_REASON",
    )
)
_PAUSE = 0.1
LOST = (httpx.TransportError, ConnectionClosed, OSError, EOFError, TimeoutError, grpc.aio.AioRpcError)


class Refused(Exception):
    """A stream did not begin: the reason, the door's own number, and what gRPC says of it."""

    def __init__(self, reason: str, code: int, detail: str = "") -> None:
        super().__init__(f"{reason} ({code}) {detail}")
        self.reason = reason
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class Edge:
    """The ways into a stack that live clients share."""

    stack: Stack
    clients: Clients
    channel: grpc.aio.Channel
    http: httpx.AsyncClient

    @classmethod
    @asynccontextmanager
    async def of(cls, stack: Stack) -> AsyncIterator[Edge]:
        """Opens them; closed at the end of the block."""
        options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{stack.port}", options=options)
        try:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            async with (
                Clients.of(stack) as clients,
                plain.client(base_url=stack.url, timeout=httpx.Timeout(20, read=None), limits=limits) as http,
            ):
                yield cls(stack, clients, channel, http)
        finally:
            await channel.close(None)

    async def talker(self) -> Talker:
        """Somebody new."""
        return self.as_talker(await self.clients.register())

    def as_talker(self, person: Person) -> Talker:
        """Somebody who registered, as they call messaging."""
        return Talker(MessagingServiceStub(self.channel), person.id, person.token)

    def websocket(self, **query: str) -> str:
        """The address of the WebSocket."""
        return f"ws://127.0.0.1:{self.stack.port}/websocket" + (f"?{urlencode(query)}" if query else "")


class Line(Device, ABC):
    """A device at some door. One that `stays` comes back by itself, with the last token that it has."""

    door = ""
    speaks = False

    def __init__(
        self, edge: Edge, token: str, *, name: str = "", resume: str = "", stays: bool = False
    ) -> None:
        super().__init__(MessagingServiceStub(edge.channel), token, name=name, resume=resume)
        self.edge = edge
        self.stays = stays
        # What is said first at doors where one speaks, in place of a hello.
        self.first: frame_pb2.ConnectRequest | None = None
        self.connected = 0
        self.refused: Refused | None = None
        self.lost: list[BaseException] = []
        # The longest that it took to be back, in seconds.
        self.away = 0.0
        self._left_at: float | None = None
        # Frames of the client that were not answered.
        self._waiting: dict[str, asyncio.Future[frame_pb2.Reply]] = {}

    def open(self) -> Line:
        """Begins to follow."""
        self._task = asyncio.create_task(self._stay() if self.stays else self._once())
        return self

    async def close(self) -> None:
        """Goes away without a word."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _once(self) -> None:
        try:
            await self._hear()
        except Refused as refused:
            self.refused = refused
        except LOST as error:
            self.lost.append(error)

    async def _stay(self) -> None:
        while True:
            self.end = None
            try:
                await self._hear()
            except Refused as refused:
                self.refused = refused
                if refused.reason not in _AGAIN:
                    return
            except LOST as error:
                self.lost.append(error)
            self._left_at = self._left_at or time.monotonic()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionError("the stream is over"))
            # No more often than the server asks for.
            await asyncio.sleep(self.end.retry_after_ms / 1000 if self.end is not None else _PAUSE)

    def _came(self) -> None:
        self.connected += 1
        if self._left_at is not None:
            self.away = max(self.away, time.monotonic() - self._left_at)
            self._left_at = None

    async def _hear(self) -> None:
        first = True
        async with aclosing(self.received()) as frames:
            async for frame in frames:
                if first:
                    self._came()
                first = False
                self.take(frame)

    def take(self, frame: frame_pb2.Frame) -> None:
        """Works through a frame."""
        super().take(frame)
        for reply in frame.replies:
            waiting = self._waiting.get(reply.ref)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)

    @abstractmethod
    def received(self) -> AsyncGenerator[frame_pb2.Frame]:
        """Frames of one connection. Raises Refused."""

    async def say(self, frame: frame_pb2.ConnectRequest) -> None:
        """Says something over the stream. Raises ConnectionError when there is none, or no way in."""
        raise ConnectionError(f"nothing is said over {self.door}")

    async def ask(self, frame: frame_pb2.ConnectRequest, within: float = 20) -> frame_pb2.Reply:
        """Says something and waits for what became of it. Raises what `say` does."""
        waiting = self._waiting[frame.ref] = asyncio.get_running_loop().create_future()
        try:
            await self.say(frame)
            # Not by `wait_for`: it forgets that it was cancelled when the answer came in the same moment.
            async with asyncio.timeout(within):
                return await waiting
        finally:
            del self._waiting[frame.ref]
            if waiting.done() and not waiting.cancelled():
                # Fetched, also where `say` has failed before.
                waiting.exception()

    async def is_refused(self, within: float = 20) -> Refused:
        """Waits until it was told no: before the stream, or by its first frame."""
        await self.ends(within)
        assert not self.is_live, self.frames
        if self.refused is None:
            assert self.end is not None, (self.frames, self.lost)
            self.refused = Refused(self.end.reason, 0)
        return self.refused

    @property
    def hello(self) -> frame_pb2.ConnectRequest:
        """Where it is and who, as a frame."""
        return frame_pb2.ConnectRequest(hello=frame_pb2.Hello(resume=self.resume, device_id=self.name))

    @property
    def query(self) -> dict[str, str]:
        """Where it is and who, for an address."""
        found = {"device_id": self.name, "resume": self.resume}
        return {name: value for name, value in found.items() if value}
