"""The live doors of a stack, one kind of line each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import httpx
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from tests.support.doors import grpc_web_reply, problem
from tests.support.live_lines import LOST, Edge, Line, Refused

SUBSCRIBE = "/sampan.messaging.v1.MessagingService/Subscribe"
# What grpc.aio says of a call whose answer it lost: our hello met a stream that was just refused.
_ANSWER_LOST = "Internal error from Core"
# A token that is longer than this goes to a WebSocket in a hello.
_FITS = 4000
_UPGRADE = (
    "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    "sec-websocket-key: c2FtcGFuIGRvZXMgdGVzdA==\r\n"
)


class GrpcLine(Line):
    """gRPC Subscribe."""

    door = "grpc_subscribe"

    async def received(self) -> AsyncGenerator[frame_pb2.Frame]:
        call = self._calls()
        try:
            async for frame in call:
                yield frame
        except grpc.aio.AioRpcError as error:
            raise _refusal(error) from error
        finally:
            call.cancel()

    def _calls(self) -> Any:
        request = pb.SubscribeRequest(resume=self.resume, device_id=self.name)
        return self.stub.Subscribe(request, metadata=self.metadata)


class ConnectLine(GrpcLine):
    """gRPC Connect."""

    door = "grpc_connect"
    speaks = True
    _greeted: Any = None

    def _calls(self) -> Any:
        self._call = self.stub.Connect(metadata=self.metadata)
        return self._call

    async def received(self) -> AsyncGenerator[frame_pb2.Frame]:
        try:
            async with aclosing(self._received()) as frames:
                async for frame in frames:
                    yield frame
        except Refused as refused:
            if refused.detail != _ANSWER_LOST or self._greeted is not None:
                raise
            # What the answer was only another call can tell.
            async with aclosing(self.received()) as frames:
                async for frame in frames:
                    yield frame

    async def _received(self) -> AsyncGenerator[frame_pb2.Frame]:
        # Not those of the connection before; nothing may be said before the hello.
        self._call = self._greeted = None
        async with aclosing(super().received()) as frames:
            greeting = asyncio.ensure_future(self._greet(self.first or self.hello))
            async for frame in frames:
                yield frame
            await greeting

    async def _greet(self, hello: frame_pb2.ConnectRequest) -> None:
        while self._call is None:
            await asyncio.sleep(0)
        with contextlib.suppress(*LOST, asyncio.InvalidStateError, asyncio.CancelledError):
            await self._call.write(hello)
            self._greeted = self._call

    async def say(self, frame: frame_pb2.ConnectRequest) -> None:
        if self._greeted is None:
            raise ConnectionError("there is no stream")
        try:
            # Who is cancelled while it writes would have the whole call cancelled, and what it hears with it.
            await asyncio.shield(self._greeted.write(frame))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise ConnectionError(str(error)) from error


class GrpcWebLine(Line):
    """gRPC-web Subscribe, as a browser reads it: message by message, then trailers."""

    door = "grpc_web"

    async def received(self) -> AsyncGenerator[frame_pb2.Frame]:
        asked = pb.SubscribeRequest(resume=self.resume, device_id=self.name).SerializeToString()
        headers = {
            "content-type": "application/grpc-web+proto",
            "x-grpc-web": "1",
            "authorization": f"Bearer {self.token}",
        }
        content = b"\0" + struct.pack(">I", len(asked)) + asked
        async with self.edge.http.stream("POST", SUBSCRIBE, content=content, headers=headers) as response:
            if response.headers.get("grpc-status", "0") != "0":
                raise _web_refusal(response, b"")
            async for flag, body in _web_frames(response):
                if not flag & 0x80:
                    yield frame_pb2.Frame.FromString(body)
                elif b"grpc-status:0" not in body.replace(b" ", b""):
                    raise _web_refusal(response, b"\x80" + struct.pack(">I", len(body)) + body)


class NdjsonLine(Line):
    """REST: a JSON object on each line."""

    door = "ndjson"
    accept = "application/x-ndjson"
    before = ""

    async def received(self) -> AsyncGenerator[frame_pb2.Frame]:
        headers = {"authorization": f"Bearer {self.token}", "accept": self.accept}
        async with self.edge.http.stream("GET", "/v1/events", params=self.query, headers=headers) as response:
            if response.status_code != 200:
                await response.aread()
                said = problem(response)
                raise Refused(said.reason, said.code)
            async for line in response.aiter_lines():
                if line.startswith(self.before) and line:
                    yield json_format.Parse(line.removeprefix(self.before), frame_pb2.Frame())


class SseLine(NdjsonLine):
    """REST: server-sent events."""

    door = "sse"
    accept = "text/event-stream"
    before = "data:"


class WebSocketLine(Line):
    """The WebSocket with JSON."""

    door = "websocket_json"
    speaks = True
    form: Mapping[str, str] = {}
    socket: ClientConnection | None = None

    async def received(self) -> AsyncGenerator[frame_pb2.Frame]:
        # An address has no room for a long token: that goes into a frame.
        fits = len(self.resume) < _FITS and self.first is None
        query = {"token": self.token, **self.form, **(self.query if fits else {})}
        try:
            socket = await connect(
                self.edge.websocket(**query), proxy=None, max_size=None, ping_interval=None
            )
        except InvalidStatus as error:
            body = json.loads(error.response.body or b"{}")
            raise Refused(body.get("reason", "NO_REASON"), error.response.status_code) from error
        async with socket:
            if not fits:
                await socket.send(self.encoded(self.first or self.hello))
            self.socket = socket
            async for message in socket:
                yield self.decoded(message)

    async def say(self, frame: frame_pb2.ConnectRequest) -> None:
        await self.send(self.encoded(frame))

    async def send(self, message: str | bytes | Sequence[bytes]) -> None:
        """Sends anything. Raises ConnectionError when there is no socket."""
        if self.socket is None:
            raise ConnectionError("there is no socket")
        try:
            await self.socket.send(message)
        except ConnectionClosed as error:
            raise ConnectionError(str(error)) from error

    def encoded(self, frame: frame_pb2.ConnectRequest) -> str | bytes:
        """A frame as it is sent."""
        return json_format.MessageToJson(frame, indent=None)

    def decoded(self, message: str | bytes) -> frame_pb2.Frame:
        """A frame as it came."""
        assert isinstance(message, str)
        return json_format.Parse(message, frame_pb2.Frame())


class BinaryWebSocketLine(WebSocketLine):
    """The WebSocket with protobuf."""

    door = "websocket_protobuf"
    form: Mapping[str, str] = {"format": "protobuf"}

    def encoded(self, frame: frame_pb2.ConnectRequest) -> str | bytes:
        return frame.SerializeToString()

    def decoded(self, message: str | bytes) -> frame_pb2.Frame:
        assert isinstance(message, bytes)
        return frame_pb2.Frame.FromString(message)


DOORS: tuple[type[Line], ...] = (
    GrpcLine,
    ConnectLine,
    GrpcWebLine,
    NdjsonLine,
    SseLine,
    WebSocketLine,
    BinaryWebSocketLine,
)


@asynccontextmanager
async def opened(*lines: Line) -> AsyncIterator[None]:
    """Devices that have all they missed; they go at the end of the block."""
    try:
        for line in lines:
            line.open()
        for line in lines:
            await line.live()
        yield
    finally:
        for line in lines:
            await line.close()


async def half_open(edge: Edge, token: str, *, websocket: bool = False) -> socket.socket:
    """A client that asks for events over HTTP/1.1, reads the first bytes of the answer, and nothing more."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await loop.sock_connect(raw, ("127.0.0.1", edge.stack.port))
    path, upgrade, status = ("/websocket", _UPGRADE, b"101") if websocket else ("/v1/events", "", b"200")
    asked = f"GET {path} HTTP/1.1\r\nhost: sampan\r\nauthorization: Bearer {token}\r\n{upgrade}\r\n"
    await loop.sock_sendall(raw, asked.encode())
    assert status in await loop.sock_recv(raw, 64)
    return raw


def _refusal(error: grpc.aio.AioRpcError) -> Refused:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return Refused(_reason(value), error.code().value[0], error.details() or "")
    return Refused("NO_REASON", error.code().value[0], error.details() or "")


def _reason(encoded: bytes) -> str:
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(encoded).details:
        detail.Unpack(info)
    return info.reason


def _web_refusal(response: httpx.Response, trailers: bytes) -> Refused:
    said = grpc_web_reply(
        httpx.Response(response.status_code, headers=response.headers, content=trailers), frame_pb2.Frame
    )
    return Refused(said.reason, said.code)


async def _web_frames(response: httpx.Response) -> AsyncIterator[tuple[int, bytes]]:
    kept = b""
    async for some in response.aiter_bytes():
        kept += some
        while len(kept) >= 5 and len(kept) >= 5 + (size := struct.unpack(">I", kept[1:5])[0]):
            yield kept[0], kept[5 : 5 + size]
            kept = kept[5 + size :]
