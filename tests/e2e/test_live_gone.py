"""Clients that vanish without a word: their streams end, and what they held is free again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from tests.conftest import own_stack
from tests.support.live_doors import (
    BinaryWebSocketLine,
    ConnectLine,
    GrpcLine,
    WebSocketLine,
    half_open,
    opened,
)
from tests.support.live_lines import Edge, Line
from tests.support.proxy import Proxy, proxy_before
from tests.support.stack import Stack
from tests.support.waiting import until

STREAMS = 2
# Seconds, of which the edge and messaging each make two or three.
KEEPALIVE = 1
# Seconds in which a client of HTTP/1.1 must take something.
PATIENCE = 4
WITHIN = 15.0


@pytest.fixture(scope="module")
def brief() -> Iterator[Stack]:
    """A stack that soon gives up who does not answer, and lets a person have few streams."""
    with own_stack(
        "gone",
        {
            "SAMPAN_RATE_LIMIT_SCALE": "100",
            "SAMPAN_EDGE_KEEPALIVE_SECONDS": str(KEEPALIVE),
            "SAMPAN_EDGE_PATIENCE_SECONDS": str(PATIENCE),
            "SAMPAN_MESSAGING_WEBSOCKET_PING_SECONDS": str(KEEPALIVE),
            "SAMPAN_MESSAGING_HEARTBEAT_SECONDS": "1",
            "SAMPAN_MESSAGING_USER_STREAMS": str(STREAMS),
        },
        measured=False,
    ) as found:
        yield found


@pytest.fixture
async def edge(brief: Stack) -> AsyncIterator[Edge]:
    async with Edge.of(brief) as found:
        yield found


@pytest.fixture
async def far(brief: Stack) -> AsyncIterator[tuple[Edge, Proxy]]:
    """The same edge over a network that may swallow all that is said."""
    async with (
        proxy_before(brief.url) as proxy,
        Edge.of(replace(brief, port=proxy.port)) as found,
    ):
        yield found, proxy


async def gets_in(edge: Edge, token: str) -> bool:
    """Whether there is room for a stream."""
    line = GrpcLine(edge, token).open()
    try:
        await until(lambda: _decided(line), True, within=20)
        return line.is_live
    finally:
        await line.close()


def heartbeats(line: Line) -> int:
    """How often it heard that nothing has happened: once a second."""
    return sum(frame.HasField("heartbeat") for frame in line.frames)


async def _decided(line: Line) -> bool:
    return line.is_live or line.refused is not None


@pytest.mark.parametrize(
    "door", [GrpcLine, ConnectLine, WebSocketLine, BinaryWebSocketLine], ids=lambda door: door.door
)
async def test_who_answers_no_ping_holds_no_stream(
    edge: Edge, far: tuple[Edge, Proxy], door: type[Line]
) -> None:
    bob = await edge.talker()
    distant, proxy = far
    async with opened(*(door(distant, bob.token) for _ in range(STREAMS))):
        proxy.stop()
        assert not await gets_in(edge, bob.token)
        await until(lambda: gets_in(edge, bob.token), True, within=WITHIN)


async def test_who_takes_no_byte_any_more_holds_no_stream(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    deaf = [await half_open(edge, bob.token) for _ in range(STREAMS)]
    try:
        assert not await gets_in(edge, bob.token)
        await asyncio.gather(*(ann.say(dialog.id, "x" * 8000) for _ in range(50)))
        await until(lambda: gets_in(edge, bob.token), True, within=WITHIN)
    finally:
        for one in deaf:
            one.close()


async def test_who_is_idle_and_answers_stays(edge: Edge) -> None:
    bob = await edge.talker()
    lines = [GrpcLine(edge, bob.token), WebSocketLine(edge, bob.token)]
    async with opened(*lines):
        for line in lines:
            # Longer than it takes to be given up.
            await line.becomes(lambda line=line: heartbeats(line) > 4 * KEEPALIVE, within=30)
        assert all(line.end is None and not line.lost for line in lines)
        assert not await gets_in(edge, bob.token)
