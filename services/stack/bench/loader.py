"""A load generator as a process of its own: keeps a number of calls in flight and counts what comes back.

It reads one JSON command a line and answers each with one line. The same code drives figure and limit.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
import time
from dataclasses import asdict
from typing import Any, cast

import uvloop

from services.stack.bench import wire
from services.stack.bench.statistics import Round, summary
from services.stack.bench.wire import Request, Target

# Seconds in which a connection must stand, and in which calls in flight must end.
PATIENCE = 10.0


class LoadError(Exception):
    """The other side broke the connection or the protocol."""


class Client(asyncio.Protocol):
    """One HTTP/2 connection that repeats one call, as often at once as `start` says."""

    def __init__(self, target: Target, number: int) -> None:
        self._request = Request(wire.headers_of(target, number), target.body)
        self._size = len(target.body)
        self._rest = b""
        self._next_stream = 1
        self._window = 65_535
        self._begun: dict[int, float] = {}
        self._promising: set[int] = set()
        self._running = False
        self._transport: asyncio.Transport
        self.latencies: list[float] = []
        self.failures = 0
        self.sample = b""
        self.broken: str = ""
        self.idle = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says hello."""
        # uvloop's own type, which is no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(wire.opening())

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any longer."""
        self.broken = self.broken or str(exc or "the server closed the connection")
        self.idle.set()

    def start(self, in_flight: int) -> None:
        """Keeps that many calls in flight until `stop`."""
        self._running = True
        self.idle.clear()
        self._send(in_flight)

    async def stop(self) -> None:
        """Sends no more and waits for what is in flight."""
        self._running = False
        if self._begun:
            async with asyncio.timeout(PATIENCE):
                await self.idle.wait()
        if self.broken:
            raise LoadError(self.broken)

    def reset(self) -> None:
        """Forgets what was counted."""
        self.latencies = []
        self.failures = 0

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()

    def _send(self, count: int) -> None:
        out = []
        now = time.perf_counter()
        for _ in range(count):
            stream = self._next_stream
            self._next_stream = stream + 2
            self._begun[stream] = now
            out.append(self._request.opening(stream) if stream == 1 else self._request.bytes_of(stream))
        self._window -= count * self._size
        if self._window < 0:
            self.broken = "the server lets nothing more through"
            self._transport.abort()
            return
        self._transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        """Counts the calls that ended and sends as many anew."""
        buffer = self._rest + data if self._rest else data
        at, end, done = 0, len(buffer), 0
        while end - at >= wire.FRAME_HEAD:
            body = at + wire.FRAME_HEAD
            after = body + int.from_bytes(buffer[at : at + 3], "big")
            if after > end:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : body], "big")
            if stream:
                done += self._on_stream(kind, flags, stream, buffer, body, after)
            else:
                self._on_connection(kind, flags, buffer[body:after])
            at = after
        self._rest = buffer[at:]
        if done and self._running:
            self._send(done)
        elif not self._begun:
            self.idle.set()

    def _on_stream(self, kind: int, flags: int, stream: int, buffer: bytes, body: int, after: int) -> int:
        """1 when this frame ended a call. Status 200 and a body are good; an error of gRPC has no body."""
        if kind == wire.HEADERS:
            if not flags & wire.END_STREAM and buffer[body] == wire.STATUS_200:
                self._promising.add(stream)
        elif kind == wire.DATA:
            if not self.sample:
                self.sample = buffer[body:after]
        elif kind != wire.RST_STREAM:
            return 0
        if not flags & wire.END_STREAM and kind != wire.RST_STREAM:
            return 0
        begun = self._begun.pop(stream, None)
        if begun is None:
            return 0
        if stream in self._promising and kind != wire.RST_STREAM:
            self.latencies.append(time.perf_counter() - begun)
        else:
            self.failures += 1
        self._promising.discard(stream)
        return 1

    def _on_connection(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == wire.SETTINGS and not flags & wire.ACK:
            self._transport.write(wire.frame(wire.SETTINGS, wire.ACK, 0, b""))
        elif kind == wire.PING and not flags & wire.ACK:
            self._transport.write(wire.frame(wire.PING, wire.ACK, 0, payload))
        elif kind == wire.WINDOW_UPDATE:
            self._window += int.from_bytes(payload, "big")
        elif kind == wire.GOAWAY:
            self.broken = (
                f"the server ends the connection: {payload[8:].decode(errors='replace') or payload!r}"
            )
            self._transport.abort()


class Loader:
    """Keeps connections from round to round; opens those of a target when it is first asked for."""

    def __init__(self) -> None:
        self._clients: dict[str, list[Client]] = {}

    async def run(
        self, target: Target, *, seconds: float, connections: int, in_flight: int
    ) -> tuple[Round, bytes]:
        """One round, after a tenth of its time unmeasured. Also returns the first answer ever got."""
        clients = await self._connected(target, connections)
        for client in clients:
            client.start(max(1, in_flight // connections))
        await asyncio.sleep(seconds / 10)
        for client in clients:
            client.reset()
        begun = time.perf_counter()
        await asyncio.sleep(seconds)
        latencies = [latency for client in clients for latency in client.latencies]
        failures = sum(client.failures for client in clients)
        took = time.perf_counter() - begun
        await asyncio.gather(*(client.stop() for client in clients))
        return summary(latencies, failures, took), clients[0].sample

    async def _connected(self, target: Target, connections: int) -> list[Client]:
        clients = self._clients.setdefault(target.name, [])
        while len(clients) < connections:
            async with asyncio.timeout(PATIENCE):
                _, client = await asyncio.get_running_loop().create_connection(
                    lambda: Client(target, len(clients)),
                    target.host,
                    target.port,
                    ssl=_context(target),
                    server_hostname=target.server_name or None,
                )
            clients.append(client)
        return clients


def _context(target: Target) -> ssl.SSLContext | None:
    if not target.ca:
        return None
    made = ssl.create_default_context(cafile=target.ca)
    made.load_cert_chain(target.certificate, target.key)
    made.set_alpn_protocols(["h2"])
    return made


def encoded(target: Target) -> dict[str, Any]:
    """A target as JSON can carry it."""
    return {**asdict(target), "body": base64.b64encode(target.body).decode()}


def decoded(raw: dict[str, Any]) -> Target:
    """The target of `encoded`."""
    headers = tuple((name, value) for name, value in raw["headers"])
    body = base64.b64decode(raw["body"])
    return Target(**{**raw, "headers": headers, "body": body, "tokens": tuple(raw["tokens"])})


async def main() -> None:
    """Works until its standard input ends."""
    loader = Loader()
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        answer: dict[str, object]
        try:
            found, sample = await loader.run(decoded(command.pop("target")), **command)
            answer = {"round": asdict(found), "sample": base64.b64encode(sample).decode()}
        except (OSError, TimeoutError, LoadError, ssl.SSLError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
