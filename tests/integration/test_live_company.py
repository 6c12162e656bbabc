"""Processes of messaging tell each other what is written, and nobody when nobody else is there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from services.mesh.bus import Bus
from services.messaging.live import link
from services.messaging.live.hub import Hub
from services.messaging.live.link import Link
from services.messaging.live.wire import Kind, News
from services.messaging.publishing import LiveEvent
from tests.support.bus import ADMIN, NatsServer, log, nats_server
from tests.support.waiting import until

WITHIN = 20


class Heard:
    """What a process hears of others."""

    def __init__(self) -> None:
        self.people: dict[object, object] = {}
        self.events: list[LiveEvent] = []
        self.news: list[News] = []

    def hear_all(self, events: Sequence[LiveEvent]) -> None:
        self.events += events

    def hear_news(self, news: News) -> None:
        self.news.append(news)


@asynccontextmanager
async def process(server: NatsServer) -> AsyncIterator[tuple[Link, Heard]]:
    """A process of messaging, as far as others see it, which hears itself already."""
    bus, heard = Bus(server.url("messaging"), "messaging", log), Heard()
    made = Link(bus)
    made.connect(cast("Hub", heard))
    running = asyncio.gather(bus.run(), made.run())
    try:
        await until(lambda: _value(made.is_away), False, within=WITHIN)
        yield made, heard
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await bus.close()


async def _value(value: Any) -> Any:
    return value


async def test_who_is_alone_tells_nobody_and_whoever_comes_where_something_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialog, person = uuid.uuid4(), uuid.uuid4()
    told: list[str] = []

    async def hear(message: Any) -> None:
        told.append(message.subject.split(".")[2])

    async with nats_server(tmp_path) as server, server.client(ADMIN) as admin:
        await admin.subscribe("sampan.messaging.*.*", cb=hear)
        await admin.flush()
        # It has been there for long.
        monkeypatch.setattr(link, "_COMPANY", 0.0)
        async with process(server) as (one, heard):
            monkeypatch.setattr(link, "_COMPANY", 60.0)
            one.tell([LiveEvent(dialog, 7, b"seven")])
            # News follow events, so what is not there before them was not told.
            one.tell_news(News(Kind.TYPING, dialog, (person,)))
            await until(lambda: _value("user" in told), True, within=WITHIN)
            assert "live" not in told
            async with process(server) as (_, other):
                await until(lambda: _value(other.news), [News(Kind.HEAD, dialog, (), 7)], within=WITHIN)
                one.tell([LiveEvent(dialog, 8, b"eight")])
                await until(lambda: _value(other.events), [LiveEvent(dialog, 8, b"eight")], within=WITHIN)
            assert heard.events == []


async def test_who_has_just_begun_tells_everything(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, process(server) as (one, _), process(server) as (_, other):
        event = LiveEvent(uuid.uuid4(), 1, b"one")
        one.tell([event])
        await until(lambda: _value(other.events), [event], within=WITHIN)
