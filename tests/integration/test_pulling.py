"""Events are had as soon as they are there, whatever became of the questions before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig
from nats.js.client import JetStreamContext

from services.mesh.bus import BUS_ERRORS, Bus
from services.mesh.pulling import Pull, pulling
from tests.support.bus import ADMIN, NatsServer, nats_server, on_bus
from tests.support.waiting import until

SERVICE, STREAM, SUBJECT = "notification", "SAMPAN_IDENTITY", "sampan.identity.account.created"
# Seconds that a question stands, and in which statistics must show an event, by the contract.
STANDS, VISIBLE = 3.0, 2.0


@dataclass
class Line:
    """A stream, one who writes into it and one who pulls from it."""

    server: NatsServer
    stream: JetStreamContext
    bus: Bus

    async def publish(self, *texts: str) -> None:
        for text in texts:
            await self.stream.publish(SUBJECT, text.encode())

    @asynccontextmanager
    async def pulling(self, *, most: int = 64, pending: int = 1000) -> AsyncIterator[Pull]:
        await self.bus.connected()
        config = ConsumerConfig(
            name=SERVICE,
            durable_name=SERVICE,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=60,
            max_ack_pending=pending,
        )
        await self.bus.jetstream.add_consumer(STREAM, config)
        async with pulling(self.bus, STREAM, SERVICE, most=most, seconds=STANDS) as pull:
            yield pull


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with (
        nats_server(tmp_path) as server,
        server.client(ADMIN) as admin,
        on_bus(server, SERVICE) as bus,
    ):
        stream = admin.jetstream()
        await stream.add_stream(StreamConfig(name=STREAM, subjects=["sampan.identity.>"]))
        yield Line(server, stream, bus)


async def taken(pull: Pull) -> list[str]:
    """The next events' texts; they are acknowledged."""
    found = await pull.next()
    for one in found:
        await one.ack()
    return [one.data.decode() for one in found]


@pytest.mark.parametrize("most", [1, 64])
async def test_after_a_question_that_ran_out_each_event_comes_at_once(line: Line, most: int) -> None:
    async with line.pulling(most=most) as pull:
        assert await taken(pull) == []
        for number in range(5):
            began = time.monotonic()
            await line.publish(str(number))
            assert await taken(pull) == [str(number)]
            assert time.monotonic() - began < VISIBLE


async def test_what_waits_comes_together_and_in_order(line: Line) -> None:
    texts = [str(number) for number in range(150)]
    await line.publish(*texts)
    async with line.pulling() as pull:
        parts = [await taken(pull) for _ in range(3)]
        assert [len(part) for part in parts] == [64, 64, 22]
        assert [text for part in parts for text in part] == texts


async def test_what_may_be_delivered_is_not_held_back_by_what_may_not(line: Line) -> None:
    await line.publish("a", "b", "c", "d", "e")
    async with line.pulling(pending=3) as pull:
        begun = time.monotonic()
        first = await pull.next()
        assert [one.data for one in first] == [b"a", b"b", b"c"]
        assert time.monotonic() - begun < VISIBLE
        for one in first:
            await one.ack()
        assert await taken(pull) == ["d", "e"]


async def test_a_consumer_that_is_removed_is_told_of(line: Line) -> None:
    async with line.pulling() as pull:
        asked = asyncio.ensure_future(pull.next())

        async def waits() -> int:
            info = await line.stream.consumer_info(STREAM, SERVICE)
            return int(info.num_waiting or 0)

        await until(waits, 1, within=20)
        await line.stream.delete_consumer(STREAM, SERVICE)
        with pytest.raises(BUS_ERRORS):
            await asked
        with pytest.raises(BUS_ERRORS):
            await pull.next()
