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
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import uvloop

from services.stack.bench import wire
from services.stack.bench.connection import PATIENCE, Connection, LoadError, context
from services.stack.bench.statistics import Round, summary
from services.stack.bench.streams import Listener, Talker, Tally
from services.stack.bench.websocket import SocketTalker, WebSocket
from services.stack.bench.wire import Request, Target

# Connections that are opened at the same time.
AT_ONCE = 32


class Client(Connection):
    """One HTTP/2 connection that repeats one call, as often at once as `start` says."""

    def __init__(self, target: Target, number: int) -> None:
        super().__init__()
        self._request = Request(wire.headers_of(target, number), wire.body_of(target, number))
        self._next_stream = 1
        self._begun: dict[int, float] = {}
        self._promising: set[int] = set()
        self._running = False
        self._done = 0
        self.latencies: list[float] = []
        self.failures = 0
        self.failed = 0
        self.sample = b""

    def start(self, in_flight: int) -> None:
        """Keeps that many calls in flight until `stop`."""
        self._running = True
        self.idle.clear()
        self.send(in_flight)

    def stop_sending(self) -> None:
        """Sends no more."""
        self._running = False
        if not self._begun:
            self.idle.set()

    def reset(self) -> None:
        """Forgets what was counted."""
        self.latencies = []
        self.failures = 0

    def send(self, count: int) -> None:
        """Begins so many calls."""
        out = []
        now = time.perf_counter()
        for _ in range(count):
            stream = self._next_stream
            self._next_stream = stream + 2
            self._begun[stream] = now
            out.append(self._request.opening(stream) if stream == 1 else self._request.bytes_of(stream))
        self._window -= count * self._request.size
        if self._window < 0:
            self.fail("the server lets nothing more through")
            return
        self._transport.write(b"".join(out))

    def _received(self) -> None:
        """Sends as many anew as ended."""
        done, self._done = self._done, 0
        if done and self._running:
            self.send(done)
        elif not self._begun:
            self.idle.set()

    def _on_stream(self, kind: int, flags: int, stream: int, buffer: bytes, body: int, after: int) -> None:
        """Status 200 and a body are good; an error of gRPC has no body."""
        if kind == wire.HEADERS:
            if not flags & wire.END_STREAM and buffer[body] == wire.STATUS_200:
                self._promising.add(stream)
        elif kind == wire.DATA:
            if not self.sample:
                self.sample = buffer[body:after]
        elif kind != wire.RST_STREAM:
            return
        if not flags & wire.END_STREAM and kind != wire.RST_STREAM:
            return
        begun = self._begun.pop(stream, None)
        if begun is None:
            return
        if stream in self._promising and kind != wire.RST_STREAM:
            self.latencies.append(time.perf_counter() - begun)
        else:
            self.failures += 1
            self.failed += 1
        self._promising.discard(stream)
        self._done += 1


class Loader:
    """Keeps connections from round to round; opens those of a target when it is first asked for."""

    def __init__(self) -> None:
        self._connections: dict[str, list[Any]] = {}
        self._tallies: dict[str, Tally] = {}

    async def run(
        self, target: Target, *, seconds: float, connections: int, in_flight: int
    ) -> tuple[Round, bytes]:
        """One round, after a tenth of its time unmeasured. Also returns the first answer ever got."""
        if target.held:
            clients = await self._listeners(target, connections, 1)
        else:
            clients = await self._opened(target, connections, lambda number: Client(target, number))
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
        for client in clients:
            client.stop_sending()
        await asyncio.gather(*(settled(client) for client in clients))
        return summary(latencies, failures, took), clients[0].sample

    async def fan_out(
        self,
        listen: Target,
        send: Target,
        *,
        seconds: float,
        connections: int,
        streams: int,
        outstanding: int,
    ) -> tuple[Round, bytes]:
        """Deliveries of messages to all streams, of which there are `streams` on each connection.

        At most `outstanding` messages are not yet with everybody: whoever sends faster than is delivered
        measures queues.
        """
        listeners = await self._listeners(listen, connections, streams)
        (pulse,) = await self._opened(send, 1, lambda number: Client(send, number))
        tally, receivers, sent = self._tallies[listen.name], connections * streams, 0
        base, failed_before, running = tally.total, int(pulse.failed), True

        def failed() -> int:
            return int(pulse.failed) - failed_before

        def progress() -> None:
            nonlocal sent
            more = (tally.total - base) // receivers + outstanding - sent
            if running and more > 0:
                sent += more
                pulse.send(more)

        tally.progress = progress
        progress()
        await asyncio.sleep(seconds / 10)
        tally.reset()
        pulse.reset()
        begun = time.perf_counter()
        await asyncio.sleep(seconds)
        latencies, failures, took = tally.latencies, pulse.failures, time.perf_counter() - begun
        running = False
        await self._drained(
            listen.name,
            base + sent * receivers,
            [*listeners, pulse],
            lambda: failed() * receivers,
        )
        return summary(latencies, failures, took), pulse.sample

    async def burst(
        self, target: Target, *, seconds: float, connections: int, messages: int, receivers: int
    ) -> tuple[Round, bytes]:
        """So many messages at once over held streams, again and again; each comes back `receivers` times.

        Over WebSockets where the target is no stream of gRPC.
        """
        talkers = await self._talkers(target, connections)
        tally = self._tallies[target.name]
        for counted in (tally, *talkers):
            counted.reset()
        expected = tally.total
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds:
            each = messages // connections
            for talker in talkers:
                talker.burst(each)
            expected += each * connections * receivers
            await self._drained(target.name, expected, talkers)
        failures = sum(talker.failures for talker in talkers)
        return summary(tally.latencies, failures, time.perf_counter() - begun), talkers[0].sample

    async def calls_at_once(
        self, target: Target, *, seconds: float, connections: int, calls: int
    ) -> tuple[Round, bytes]:
        """So many calls at once, again and again, each time when all have ended."""
        clients = await self._opened(target, connections, lambda number: Client(target, number))
        for client in clients:
            client.reset()
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds:
            for client in clients:
                client.idle.clear()
                client.send(calls // connections)
            await asyncio.gather(*(settled(client) for client in clients))
        took = time.perf_counter() - begun
        latencies = [latency for client in clients for latency in client.latencies]
        return summary(latencies, sum(client.failures for client in clients), took), clients[0].sample

    async def hold(self, target: Target, *, connections: int, streams: int) -> int:
        """Opens streams and keeps them; how many have been answered."""
        return sum(one.opened for one in await self._listeners(target, connections, streams))

    async def hold_websockets(self, target: Target, *, connections: int) -> int:
        """Opens WebSockets and keeps them; how many have had a frame."""
        made = await self._opened(
            target, connections, lambda number: WebSocket(target, number, f"device_id=socket-{number}")
        )
        return len(made)

    def release(self, name: str) -> None:
        """Closes what a target's name stands for."""
        for connection in self._connections.pop(name, ()):
            connection.close()

    async def _talkers(self, target: Target, connections: int) -> list[Any]:
        if target.held:
            return await self._listeners(target, connections, 1)
        tally = self._tallies.setdefault(target.name, Tally())
        return await self._opened(target, connections, lambda number: SocketTalker(target, number, tally))

    async def _listeners(self, target: Target, connections: int, streams: int) -> list[Any]:
        tally = self._tallies.setdefault(target.name, Tally())
        kind = Talker if target.held else Listener
        made = await self._opened(target, connections, lambda number: kind(target, number, tally))
        for one in made:
            one.open(streams - one.asked)
            async with asyncio.timeout(PATIENCE * 6):
                while one.opened < streams and not one.broken:
                    await asyncio.sleep(0.005)
            if one.broken:
                raise LoadError(one.broken)
        return made

    async def _drained(
        self, name: str, expected: int, connections: list[Any], lost: Callable[[], int] = int
    ) -> None:
        ends = time.perf_counter() + PATIENCE
        while (missing := expected - lost() - self._tallies[name].total) > 0:
            broken = next((one.broken for one in connections if one.broken), "")
            if broken or time.perf_counter() > ends:
                raise LoadError(broken or f"{missing} deliveries never came")
            await asyncio.sleep(0.001)

    async def _opened(self, target: Target, count: int, make: Callable[[int], Any]) -> list[Any]:
        made = self._connections.setdefault(target.name, [])
        while len(made) < count:
            numbers = range(len(made), min(count, len(made) + AT_ONCE))
            made += await asyncio.gather(*(_connected(target, make, number) for number in numbers))
        return made


async def _connected(target: Target, make: Callable[[int], Any], number: int) -> Any:
    """A connection; a WebSocket when it has had a frame."""
    async with asyncio.timeout(PATIENCE):
        _, one = await asyncio.get_running_loop().create_connection(
            lambda: make(number),
            target.host,
            target.port,
            ssl=context(target),
            server_hostname=target.server_name or None,
        )
        if isinstance(one, WebSocket):
            await one.answered()
    return one


async def settled(client: Client | Talker) -> None:
    """Waits for what is in flight."""
    async with asyncio.timeout(PATIENCE):
        await client.idle.wait()
    if client.broken:
        raise LoadError(client.broken)


_BYTES = ("body", "bodies", "messages")


def encoded(target: Target) -> dict[str, Any]:
    """A target as JSON can carry it."""
    found = asdict(target)
    for name in _BYTES:
        value = found[name]
        many = [value] if isinstance(value, bytes) else value
        found[name] = [base64.b64encode(one).decode() for one in many]
    return found


def decoded(raw: dict[str, Any]) -> Target:
    """The target of `encoded`."""
    found = dict(raw)
    for name in _BYTES:
        found[name] = tuple(base64.b64decode(one) for one in raw[name])
    (found["body"],) = found["body"]
    found["headers"] = tuple((name, value) for name, value in raw["headers"])
    found["tokens"] = tuple(raw["tokens"])
    return Target(**found)


async def obey(loader: Loader, command: dict[str, Any]) -> dict[str, object]:
    """Does what a command says."""
    name = command.pop("do", "run")
    for field in ("target", "listen", "send"):
        if field in command:
            command[field] = decoded(command[field])
    if name == "release":
        loader.release(command["name"])
        return {"count": 0}
    if name in ("hold", "hold_websockets"):
        return {"count": await getattr(loader, name)(**command)}
    found, sample = await getattr(loader, name)(**command)
    return {"round": asdict(found), "sample": base64.b64encode(sample).decode()}


async def main() -> None:
    """Works until its standard input ends."""
    loader = Loader()
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        answer: dict[str, object]
        try:
            answer = await obey(loader, command)
        except (OSError, TimeoutError, LoadError, ssl.SSLError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
