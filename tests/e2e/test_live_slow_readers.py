"""Readers that take nothing for a while: they stay, get all of it, and keep nobody else waiting."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from google.protobuf import json_format

from sampan.messaging.v1 import frame_pb2
from tests.conftest import own_stack
from tests.support import http as plain
from tests.support.chat import Talker
from tests.support.live_doors import NdjsonLine, SseLine, half_open, opened
from tests.support.live_lines import Edge, Line
from tests.support.stack import Stack

# Seconds; who vanishes is given up after two or three times that.
KEEPALIVE = 1
# More than all buffers on the way take, in messages of 8000 bytes.
MANY = 400
# Readers that take nothing: what each of them makes the edge hold must not add up to a limit of all.
DEAF = 48
PEOPLE = 4


@pytest.fixture(scope="module")
def brief() -> Iterator[Stack]:
    """A stack that soon gives up who does not answer."""
    with own_stack(
        "slow",
        {
            "SAMPAN_RATE_LIMIT_SCALE": "100",
            "SAMPAN_EDGE_KEEPALIVE_SECONDS": str(KEEPALIVE),
            "SAMPAN_MESSAGING_HEARTBEAT_SECONDS": "1",
        },
        measured=False,
    ) as found:
        yield found


@pytest.fixture
async def edge(brief: Stack) -> AsyncIterator[Edge]:
    async with Edge.of(brief) as found:
        yield found


@pytest.mark.parametrize("door", [NdjsonLine, SseLine], ids=lambda door: door.door)
async def test_who_takes_nothing_for_long_stays_and_gets_all_of_it(
    edge: Edge, door: type[NdjsonLine]
) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    idle = NdjsonLine(edge, ann.token)
    headers = {"authorization": f"Bearer {bob.token}", "accept": door.accept}
    async with (
        opened(idle),
        narrow(edge) as http,
        http.stream("GET", "/v1/events", headers=headers) as response,
    ):
        frames = parsed(response, door.before)
        while not (await anext(frames)).live:
            pass
        await say_many(ann, dialog.id)
        # Longer than it takes to give up who has vanished.
        before = heartbeats(idle)
        await idle.becomes(lambda: heartbeats(idle) > before + 5 * KEEPALIVE, within=60)
        seqs: list[int] = []
        while MANY + 1 not in seqs:
            seqs += [event.seq for event in (await anext(frames)).events]
        assert seqs == list(range(2, MANY + 2))


async def test_many_who_take_nothing_keep_nobody_waiting(edge: Edge) -> None:
    ann, *others = [await edge.talker() for _ in range(PEOPLE + 1)]
    dialog = await ann.group(*others)
    deaf = [await half_open(edge, others[number % PEOPLE].token) for number in range(DEAF)]
    reader = NdjsonLine(edge, ann.token)
    try:
        async with opened(reader):
            await say_many(ann, dialog.id)
            await reader.has(dialog.id, MANY + 1, within=60)
            assert reader.seqs(dialog.id) == list(range(2, MANY + 2))
    finally:
        for one in deaf:
            one.close()


def narrow(edge: Edge) -> httpx.AsyncClient:
    """A client that takes little before it is asked for it."""
    options = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]
    transport = plain.transport(socket_options=options)
    return plain.client(transport=transport, base_url=edge.stack.url, timeout=httpx.Timeout(20, read=None))


async def parsed(response: httpx.Response, before: str) -> AsyncIterator[frame_pb2.Frame]:
    """Frames, each read when it is asked for."""
    async for line in response.aiter_lines():
        if line.startswith(before) and line:
            yield json_format.Parse(line.removeprefix(before), frame_pb2.Frame())


async def say_many(who: Talker, dialog_id: str) -> None:
    """Writes more than the buffers take."""
    for _ in range(MANY // 50):
        await asyncio.gather(*(who.say(dialog_id, "x" * 8000) for _ in range(50)))


def heartbeats(line: Line) -> int:
    """How often it heard that nothing has happened: once a second."""
    return sum(frame.HasField("heartbeat") for frame in line.frames)
