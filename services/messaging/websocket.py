"""The WebSocket door: the frames of Connect, as JSON in text messages or protobuf in binary ones."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, cast
from urllib.parse import parse_qsl

from google.protobuf import json_format
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConcurrencyError, ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.chain import Chain
from services.mesh.errors import InvalidArgument, MalformedRequest, SampanError, UnknownQueryParameter
from services.mesh.handlers import rpc_handler
from services.mesh.policy import method_at
from services.mesh.problem import rest_headers
from services.mesh.tls import EDGE, SPIFFE_PREFIX, Certificate
from services.messaging.live import frames
from services.messaging.live.inbound import MOST_BYTES
from services.messaging.servicer_live import LiveMethods
from services.messaging.websocket_connection import Connection

PATH = "/websocket"
HEALTH = "/healthz"
CONNECT = "/sampan.messaging.v1.MessagingService/Connect"
SUBSCRIBE = "/sampan.messaging.v1.MessagingService/Subscribe"
# How long the service may take to refuse somebody before the connection becomes a WebSocket, in seconds.
_REFUSAL = 2.0
# Contexts that are kept for each connection cost ten times the memory of an idle stream.
_DEFLATE = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True,
    client_no_context_takeover=True,
    server_max_window_bits=12,
    client_max_window_bits=12,
)
_NORMAL, _GOING_AWAY, _POLICY = 1000, 1001, 1008

Run = Callable[[AsyncIterator[bytes], "_Stream"], AsyncIterator[bytes | str]]


class _Refused(Exception):
    """The chain has said no, with the words for REST."""

    def __init__(self, detail: str, trailing: tuple[tuple[str, str | bytes], ...]) -> None:
        super().__init__(detail)
        self.words = dict(trailing)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What stands in the address."""

    hello: frame_pb2.Hello | None
    binary: bool


class _Stream:
    """One connection, as the chain sees a call: its metadata, who sent it, and its messages."""

    def __init__(self, connection: ServerConnection, request: Request, asked: _Asked) -> None:
        self._connection = connection
        self._asked = asked
        self._metadata = (
            *((name.lower(), value) for name, value in request.headers.raw_items()),
            # Makes the chain word its errors for REST.
            ("x-envoy-original-path", PATH),
        )
        self.task: asyncio.Task[Any] | None = None
        self.first: asyncio.Task[Any] | None = None
        self.frames: AsyncIterator[Any] | None = None
        # Set when the chain has let it in, and nothing that stood in the address can be refused any more.
        self.entered = asyncio.Event()

    # What the chain asks of a call's context.

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def peer_identities(self) -> list[bytes]:
        return [identity.encode() for identity in identities(self._connection)]

    def peer(self) -> str:
        return ""

    def time_remaining(self) -> None:
        return None

    async def abort(self, _: object, detail: str, trailing: tuple[tuple[str, str | bytes], ...]) -> NoReturn:
        raise _Refused(detail, trailing)

    async def send_initial_metadata(self, _: object) -> None:
        """There is no such thing once it is a WebSocket."""

    def end(self, refused: _Refused) -> bytes | str:
        """The last frame for who was refused when it was a WebSocket already."""
        reason = json.loads(refused.words["x-problem"])["reason"]
        piece = frames.end(reason, str(refused), 0)
        return frames.binary([piece], b"") if self._asked.binary else frames.text([piece], b"")

    async def messages(self) -> AsyncIterator[bytes]:
        """Frames of the client in protobuf, after the hello that stood in the address."""
        if self._asked.hello is None:
            self.entered.set()
        else:
            yield frame_pb2.ConnectRequest(hello=self._asked.hello).SerializeToString()
        try:
            async for message in self._connection:
                yield message if isinstance(message, bytes) else _from_json(message)
        except ConnectionClosed:
            pass
        # With the client gone nobody reads what the stream still has to say.
        if self.task is not None:
            self.task.cancel()


class WebSockets:
    """Listens for the edge's connections at `listen`, `host:port`. `run` needs `attach` before it.

    Each is pinged every `ping` seconds, and may take as long to answer.
    """

    def __init__(self, listen: str, certificate: Certificate, live: LiveMethods, *, ping: float) -> None:
        self._host, _, port = listen.rpartition(":")
        self._port = int(port)
        self._certificate = certificate
        self._live = live
        self._ping = ping
        self._streams: dict[ServerConnection, _Stream] = {}
        self._chain: Chain | None = None
        # Of binary connections and of those with text.
        self._runs: dict[bool, Run] = {}
        self._draining = False

    def attach(self, chain: Chain) -> None:
        """Has each stream go through the same steps as a call of Connect."""
        self._chain = chain
        self._runs = {
            True: _behind(chain, self._live.Connect),
            False: _behind(chain, self._live.ConnectText),
        }

    def drain(self) -> None:
        """Says that no more connections are wanted here."""
        self._draining = True

    async def run(self) -> None:
        """Until cancelled."""
        server = await serve(
            self._serve,
            self._host,
            self._port,
            ssl=_tls(self._certificate),
            process_request=self._enter,
            select_subprotocol=_subprotocol,
            extensions=[_DEFLATE],
            compression=None,
            max_size=MOST_BYTES,
            max_queue=4,
            create_connection=Connection,
            ping_interval=self._ping,
            ping_timeout=self._ping,
            close_timeout=3.0,
            server_header=None,
            start_serving=True,
        )
        async with server:
            await asyncio.get_running_loop().create_future()

    async def _enter(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers who may not come in; lets the others become WebSockets."""
        path, _, query = request.path.partition("?")
        if path == HEALTH:
            return _answer(503 if self._draining else 200, b"")
        if f"{SPIFFE_PREFIX}{EDGE}" not in identities(connection):
            return _answer(403, b"")
        if path != PATH:
            return _answer(404, b"")
        return await self._open(connection, request, query)

    async def _open(self, connection: ServerConnection, request: Request, query: str) -> Response | None:
        if self._chain is None:
            return _answer(503, b"")
        try:
            asked = _asked(query, self._chain)
        except SampanError as error:
            return _worded(dict(rest_headers(error, "", PATH)))
        stream = _Stream(connection, request, asked)
        stream.frames = self._runs[asked.binary](stream.messages(), stream)
        stream.first = asyncio.ensure_future(anext(stream.frames, None))
        entered = asyncio.ensure_future(stream.entered.wait())
        waits = (stream.first, entered)
        await asyncio.wait(waits, timeout=_REFUSAL, return_when=asyncio.FIRST_COMPLETED)
        entered.cancel()
        if stream.first.done() and isinstance(refused := stream.first.exception(), _Refused):
            return _worded(refused.words)
        self._streams[connection] = stream
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        stream = self._streams.pop(connection)
        stream.task = asyncio.current_task()
        if stream.first is None or stream.frames is None:
            return
        code = _NORMAL
        try:
            frame = await stream.first
            while frame is not None:
                await connection.send(frame)
                frame = await anext(stream.frames, None)
            if self._draining:
                code = _GOING_AWAY
        except _Refused as refused:
            code = _POLICY
            await connection.send(stream.end(refused))
        except (ConnectionClosed, asyncio.CancelledError):
            # CancelledError is ours: the client has gone.
            pass
        finally:
            stream.first.cancel()
            await _closed(stream.frames)
        await _leave(connection, code)


def _behind(chain: Chain, handler: Callable[..., Any]) -> Run:
    made: Any = rpc_handler(chain, method_at(CONNECT), handler).stream_stream
    return cast(Run, made)


async def _leave(connection: ServerConnection, code: int) -> None:
    """Closes after all that the client still says.

    Bytes that nobody has read would make the kernel reset the connection, and a client that is writing would
    lose the last frame with the reason.
    """
    closing = asyncio.ensure_future(connection.close(code))
    try:
        with contextlib.suppress(ConnectionClosed, ConcurrencyError):
            async for _ in connection:
                pass
    finally:
        await closing


async def _closed(answers: AsyncIterator[Any]) -> None:
    close = getattr(answers, "aclose", None)
    if close is not None:
        with contextlib.suppress(RuntimeError, asyncio.CancelledError):
            await close()


def identities(connection: ServerConnection) -> list[str]:
    """The URIs in the certificate of whoever connected."""
    found = connection.transport.get_extra_info("peercert") or {}
    return [str(value) for kind, value in found.get("subjectAltName", ()) if kind == "URI"]


def _asked(query: str, chain: Chain) -> _Asked:
    """Reads the address, by the rules of Subscribe. Raises UnknownQueryParameter and InvalidArgument."""
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in {"resume", "device_id", "format"}:
            raise UnknownQueryParameter
        given[name] = value
    if given.get("format", "json") not in {"json", "protobuf"}:
        raise InvalidArgument("format is json or protobuf")
    resume, device_id = given.get("resume", ""), given.get("device_id", "")
    asked = pb.SubscribeRequest(resume=resume, device_id=device_id)
    chain.read(method_at(SUBSCRIBE), asked.SerializeToString())
    hello = frame_pb2.Hello(resume=resume, device_id=device_id) if resume or device_id else None
    return _Asked(hello, given.get("format") == "protobuf")


def _from_json(text: str) -> bytes:
    """A client's frame in protobuf. Raises MalformedRequest."""
    try:
        frame = json_format.Parse(text, frame_pb2.ConnectRequest(), ignore_unknown_fields=True)
    except (json_format.ParseError, RecursionError, UnicodeError) as error:
        raise MalformedRequest from error
    return frame.SerializeToString()


def _worded(words: dict[str, str | bytes]) -> Response:
    """An error as REST has it."""
    body = str(words.get("x-problem", "")).encode()
    answer = _answer(int(words.get("x-http-code", 503)), body)
    answer.headers["content-type"] = "application/problem+json"
    for name in ("retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"):
        if name in words:
            answer.headers[name] = str(words[name])
    return answer


def _answer(status: int, body: bytes) -> Response:
    headers = Headers({"content-length": str(len(body)), "connection": "close"})
    return Response(status, http.HTTPStatus(status).phrase, headers, body)


def _subprotocol(_: ServerConnection, offered: Any) -> Any:
    """A browser that gave its token as a subprotocol wants one of its words back."""
    return "bearer" if "bearer" in offered else None


def _tls(certificate: Certificate) -> ssl.SSLContext:
    """Serves under the service's certificate, also when it is renewed; takes callers of the mesh only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["http/1.1"])
    served = certificate.current()
    context.load_verify_locations(cadata=served.authority.decode())
    certificate.load_into(context)

    def renewed(_: object, __: object, ___: object) -> None:
        nonlocal served
        found = certificate.current()
        if found is not served:
            served = found
            certificate.load_into(context)

    context.sni_callback = renewed
    return context
