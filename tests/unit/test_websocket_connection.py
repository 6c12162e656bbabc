"""What a client sends over a WebSocket, however the network cuts it, arrives as the library has it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Close, Frame, Opcode

from services.messaging.websocket_connection import Connection

Handler = Callable[[ServerConnection], Awaitable[None]]
MOST = 256 * 1024
REQUEST = (
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: c2FtcGFuIGJlbmNobWFyaw==\r\n\r\n"
)
SIZES = st.sampled_from((0, 1, 5, 125, 126, 127, 300, 65_535, 65_536, 70_000))


def wire(*frames: Frame) -> bytes:
    """Frames as a client sends them."""
    return b"".join(frame.serialize(mask=True) for frame in frames)


def binary(data: bytes) -> Frame:
    return Frame(Opcode.BINARY, data)


@contextlib.asynccontextmanager
async def listening(
    connection: type[ServerConnection] = Connection,
) -> AsyncIterator[tuple[int, list[object]]]:
    """A port, and what is heard there: messages, and the code with which it was ended."""
    heard: list[object] = []

    async def hear(client: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in client:
                heard.append(message)
        sent = client.protocol.close_sent
        heard.append(sent and sent.code)

    async with served(hear, connection) as port:
        yield port, heard


@contextlib.asynccontextmanager
async def served(handler: Handler, connection: type[ServerConnection], **more: Any) -> AsyncIterator[int]:
    """A port at which a handler has its clients, as the door has them."""
    how: Any = {
        "create_connection": connection,
        "max_size": MOST,
        "max_queue": 4,
        "compression": None,
        **more,
    }
    async with serve(handler, "127.0.0.1", 0, **how) as server:
        (socket,) = server.sockets
        yield socket.getsockname()[1]


async def echo(client: ServerConnection) -> None:
    """Says what it hears."""
    async for message in client:
        await client.send(message)


async def said(
    chunks: Sequence[bytes], *, at_once: bytes = b"", connection: type[ServerConnection] = Connection
) -> list[object]:
    """What a server hears of chunks that are sent one by one."""
    async with listening(connection) as (port, heard):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST + at_once)
        await reader.readuntil(b"\r\n\r\n")
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            # Most are read alone then.
            await asyncio.sleep(0)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while await reader.read(1 << 20):
                    pass
        writer.close()
    return heard


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Data, cut at places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[one:two] for one, two in itertools.pairwise(places)]


CLOSE = Frame(Opcode.CLOSE, Close(1000, "").serialize())
MESSAGES = st.one_of(
    SIZES.map(lambda size: [binary(os.urandom(size))]),
    SIZES.map(lambda size: [Frame(Opcode.TEXT, b"\xc3\xa4" * (size // 2))]),
    SIZES.map(lambda size: [Frame(Opcode.PING, b"p" * min(size, 125))]),
    # One of three pieces, with a ping between them.
    SIZES.map(
        lambda size: [
            Frame(Opcode.BINARY, b"a" * size, fin=False),
            Frame(Opcode.PING, b""),
            Frame(Opcode.CONT, b"b", fin=False),
            Frame(Opcode.CONT, b"c", fin=True),
        ]
    ),
)


@given(st.lists(MESSAGES, max_size=8), st.lists(st.integers(0, 1 << 20), max_size=12))
def test_what_is_said_is_heard_however_it_is_cut(messages: list[list[Frame]], cuts: list[int]) -> None:
    data = wire(*(frame for message in messages for frame in message), CLOSE)
    expected: list[object] = []
    for message in messages:
        whole = b"".join(bytes(one.data) for one in message if one.opcode is not Opcode.PING)
        if message[0].opcode is not Opcode.PING:
            expected.append(whole.decode() if message[0].opcode is Opcode.TEXT else whole)
    assert asyncio.run(said(pieces(data, cuts))) == [*expected, 1000]


# What comes, and the code that ends it.
BROKEN = {
    "unmasked": (binary(b"x").serialize(mask=False), 1002),
    "too large": (wire(binary(b"x" * (MOST + 1))), 1009),
    "the head of one too large": (wire(binary(b"x" * (MOST + 1)))[:20], 1009),
    "no text": (wire(Frame(Opcode.TEXT, b"\xff")), 1007),
    "a message in another one": (wire(Frame(Opcode.BINARY, b"a", fin=False), binary(b"b")), 1002),
    "a piece of nothing": (wire(Frame(Opcode.CONT, b"a")), 1002),
    "compressed unasked": (b"\xc2\x81" + wire(binary(b"a"))[2:], 1002),
    "too large in pieces": (
        wire(Frame(Opcode.BINARY, b"a", fin=False), Frame(Opcode.CONT, b"x" * MOST)),
        1009,
    ),
}


# Masks are random: what is named by bytes would be another test in each process.
@pytest.mark.parametrize("how", BROKEN)
async def test_what_breaks_the_protocol_ends_as_it_does_in_the_library(how: str) -> None:
    data, code = BROKEN[how]
    first = wire(binary(b"before"))
    for chunks in ([first + data], [first, data], [first + data[:3], data[3:]]):
        found = await said(chunks)
        assert found == [b"before", code]
        assert found == await said(chunks, connection=ServerConnection)


@pytest.mark.parametrize("early", [1, 4, -1])
async def test_what_comes_with_the_request_is_heard(early: int) -> None:
    data = wire(binary(b"one"), binary(b"two"), CLOSE)
    assert await said([data[early:]], at_once=data[:early]) == [b"one", b"two", 1000]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 200_000])
async def test_messages_of_any_size_go_out(size: int) -> None:
    async with (
        served(echo, Connection) as port,
        connect(f"ws://127.0.0.1:{port}", max_size=MOST, compression=None) as client,
    ):
        for message in (b"x" * size, "y" * size):
            await client.send(message)
            assert await client.recv() == message


async def test_who_compresses_is_understood_and_answered_so() -> None:
    async with (
        served(echo, Connection, extensions=[ServerPerMessageDeflateFactory()]) as port,
        connect(f"ws://127.0.0.1:{port}", max_size=MOST, compression="deflate") as client,
    ):
        assert client.protocol.extensions
        for message in (b"x" * 5_000, "y" * 5_000, b"", "z"):
            await client.send(message)
            assert await client.recv() == message
