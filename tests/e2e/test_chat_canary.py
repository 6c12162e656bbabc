"""What people say stands in messaging's database and goes to those whom it is for: nowhere else."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import nats
import pytest
from nats.aio.msg import Msg

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.bus import flushed
from services.stack.pki import OPERATOR
from tests.conftest import prepare
from tests.e2e.test_canary import disguises, everything
from tests.support import collector as collectors
from tests.support import http as plain
from tests.support import stack as stacks
from tests.support.collector import Collector
from tests.support.faults import armed
from tests.support.live_doors import DOORS, WebSocketLine, opened
from tests.support.live_lines import Edge, Line
from tests.support.stack import Stack, free_port
from tests.support.waiting import until

# What goes to those who are connected.
LIVE = "sampan.messaging.live."


@dataclass
class World:
    """A stack of which all is heard: its traces, its bus, its errors."""

    edge: Edge
    collector: Collector
    faults: Path
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def hear(self, message: Msg) -> None:
        self.heard.append((message.subject, message.data + repr(message.headers).encode()))

    async def refused(self, call: object) -> None:
        """Makes a call that fails, and keeps what it says."""
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call  # type: ignore[misc]
        self.errors.append(f"{error.value!r} {error.value.trailing_metadata()!r}")


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    port = free_port()
    home = tmp_path_factory.mktemp("chat-canary") / "home"
    folder = tmp_path_factory.mktemp("faults")
    extra = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "SAMPAN_EDGE_TRACE_PERCENT": "100",
        "SAMPAN_LOG_LEVEL": "debug",
        "SAMPAN_LOG_SAMPLE": "1",
        "SAMPAN_FAULTS": str(folder),
    }
    prepare(home)
    async with collectors.collecting(port) as (collector, _):
        stack = await asyncio.to_thread(stacks.start, home, extra, measured=False)
        try:
            async with Edge.of(stack) as edge, listening(World(edge, collector, folder)) as found:
                yield found
        finally:
            await asyncio.to_thread(stack.command, "down")


@asynccontextmanager
async def listening(world: World) -> AsyncIterator[World]:
    """Hears all that any service says on the bus."""
    client = await nats.connect(world.edge.stack.addresses.nats(OPERATOR))
    try:
        await client.subscribe("sampan.>", cb=world.hear)
        await flushed(client)
        yield world
    finally:
        await client.close()


async def figures(stack: Stack) -> bytes:
    """The metrics of all processes and of the edge."""
    listed = json.loads((await asyncio.to_thread(stack.command, "metrics", "--json")).stdout)
    async with plain.client() as http:
        answers = [await http.get(one["url"]) for one in listed]
    assert len(answers) > 3
    return b"".join(answer.content for answer in answers)


async def talk(world: World, canary: str) -> None:
    """All that people may write, by several doors, and all that may go wrong with it."""
    edge = world.edge
    ann, bob, cat = [await edge.talker() for _ in range(3)]
    dialog = await ann.group(bob, title=f"title {canary}")
    lines: list[Line] = [door(edge, bob.token) for door in DOORS]
    async with opened(*lines):
        said = await ann.say(dialog.id, f"hello {canary}")
        await ann.edit(said.id, f"edited {canary}")
        await ann.say(dialog.id, f"reply {canary}", reply_to=said.id)
        speaking = next(line for line in lines if isinstance(line, WebSocketLine))
        frame = frame_pb2.ConnectRequest(ref="one", send=frame_pb2.Send(dialog_id=dialog.id))
        frame.send.content.text = f"by frame {canary}"
        assert (await speaking.ask(frame)).reason == ""
        await ann.UpdateDialog(pb.UpdateDialogRequest(dialog_id=dialog.id, title=f"other {canary}"))
        await bob.ReportMessage(
            pb.ReportMessageRequest(id=said.id, category="spam", comment=f"ugly {canary}")
        )
        for line in lines:
            await line.has(dialog.id, 6)
        await speaking.send(f'{{"send": {{"content": {{"text": "{canary}"')
        world.errors.append(repr(await speaking.ends()))
    long, foreign = f"{canary}{'x' * 8192}", await cat.group(bob, title="elsewhere")
    for call in (
        ann.say(dialog.id, long),
        ann.say(dialog.id, f"{canary}\0"),
        ann.say(foreign.id, canary),
        cat.edit(said.id, canary),
        ann.say(dialog.id, canary, reply_to=said.id[:-1]),
    ):
        await world.refused(call)
    with armed(world.faults, "messaging.send.after_commit", "raise"):
        await world.refused(ann.say(dialog.id, f"crash {canary}"))


async def all_traced(world: World) -> None:
    """Returns when the spans of what comes last of all are there: so are those before."""
    last = await world.edge.talker()
    trace = secrets.token_hex(16)
    headers = {
        "authorization": f"Bearer {last.token}",
        "traceparent": f"00-{trace}-{secrets.token_hex(8)}-01",
    }
    assert (await world.edge.http.get("/v1/dialogs", headers=headers)).status_code == 200

    async def there() -> bool:
        return "messaging" in {span.service for span in world.collector.of(trace)}

    await until(there, True, within=20)


async def test_what_people_say_is_nowhere_but_where_it_belongs(world: World) -> None:
    canary = f"canary-{secrets.token_hex(8)}"
    stack = world.edge.stack
    await talk(world, canary)
    await all_traced(world)
    found = await everything(stack)
    assert canary.encode() in found["database messaging"]
    assert any(canary.encode() in data for subject, data in world.heard if subject.startswith(LIVE))
    found |= {
        "metrics": await figures(stack),
        "traces": "".join(span.text for span in world.collector.spans).encode(),
        "errors": "".join(world.errors).encode(),
        "bus": b"".join(data for subject, data in world.heard if not subject.startswith(LIVE)),
    }
    del found["database messaging"]
    assert all(found[place] for place in ("metrics", "traces", "errors", "bus", "logs/chat.log"))
    for place, content in found.items():
        for disguise in disguises(canary):
            assert disguise not in content, place
