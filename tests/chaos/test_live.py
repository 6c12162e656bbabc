"""Live streams while parts die: clients that come back by themselves get every event once, in order."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import grpc
import pytest

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.messaging.v1.message_pb2 import Content
from sampan.messaging.v1.messaging_service_pb2_grpc import MessagingServiceStub
from services.mesh import channels
from services.mesh.policy import service_methods
from services.mesh.settings import ServiceSettings
from services.stack.service_parts import replica_key
from tests.conftest import own_stack
from tests.support import parts
from tests.support.clients import Clients, Person
from tests.support.mesh import settings_of
from tests.support.stack import Stack
from tests.support.waiting import until

REPLICAS = ("chat-1", "chat-2")
SERVICE = "sampan.messaging.v1.MessagingService"


@pytest.fixture(scope="module")
def pair() -> Iterator[Stack]:
    """A stack in which chat runs twice."""
    with own_stack(
        "live-pair",
        {"SAMPAN_PROCESS_REPLICAS": '{"chat": 2}', "SAMPAN_RATE_LIMIT_SCALE": "100000"},
        measured=False,
    ) as found:
        yield found


def addresses(stack: Stack) -> list[str]:
    """Where the replicas are."""
    return [f"127.0.0.1:{stack.state.ports[replica_key('messaging', number)]}" for number in (0, 1)]


@asynccontextmanager
async def messaging(stack: Stack) -> AsyncIterator[MessagingServiceStub]:
    """Both replicas, as the edge sees them: calls go to those that say SERVING."""
    settings = ServiceSettings(**settings_of("edge", stack.pki))
    channel = channels.channel(addresses(stack), "messaging", settings, service_methods(SERVICE).values())
    try:
        yield MessagingServiceStub(channel)
    finally:
        await channel.close(None)


@dataclass
class Follower:
    """A device that always wants to be connected. `pauses` is how long it was not, in seconds."""

    stub: MessagingServiceStub
    person: Person
    resume: str = ""
    events: list[frame_pb2.Event] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    live: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.person.token}")]

    async def run(self) -> None:
        lost_at = 0.0
        while True:
            pause = 0.05
            try:
                request = pb.SubscribeRequest(resume=self.resume)
                async for frame in self.stub.Subscribe(request, metadata=self.metadata):
                    self.take(frame)
                    if frame.live and lost_at:
                        self.pauses.append(time.monotonic() - lost_at)
                        lost_at = 0.0
                    if frame.HasField("end"):
                        self.ends.append(frame.end.reason)
                        pause = frame.end.retry_after_ms / 1000
            except grpc.aio.AioRpcError:
                pass
            lost_at = lost_at or time.monotonic()
            await asyncio.sleep(pause)

    def take(self, frame: frame_pb2.Frame) -> None:
        self.events.extend(frame.events)
        self.resume = frame.resume or self.resume
        if frame.live:
            self.live.set()

    def seqs(self, dialog_id: str) -> list[int]:
        return [event.seq for event in self.events if event.dialog_id == dialog_id]


class Writer:
    """Sends message after message into a dialog; each until it is acknowledged, under one id."""

    def __init__(self, stub: MessagingServiceStub, person: Person, dialog_id: str) -> None:
        self._stub = stub
        self._metadata = [("authorization", f"Bearer {person.token}")]
        self._dialog_id = dialog_id
        self.acknowledged: dict[str, int] = {}
        self.failures: list[str] = []

    async def run(self) -> None:
        number = 0
        while True:
            number += 1
            await self._send(f"{number}")
            await asyncio.sleep(0.005)

    async def _send(self, key: str) -> None:
        request = pb.SendMessageRequest(
            dialog_id=self._dialog_id, content=Content(text=key), client_message_id=key
        )
        while True:
            try:
                message = await self._stub.SendMessage(request, metadata=self._metadata, timeout=5)
            except grpc.aio.AioRpcError as error:
                self.failures.append(f"{error.code()} {error.details()}")
                await asyncio.sleep(0.05)
                continue
            self.acknowledged[key] = message.seq
            return


@dataclass
class Scene:
    """Two people in a dialog: one writes, both follow on two devices each."""

    dialog_id: str
    writer: Writer
    followers: list[Follower]
    writing: asyncio.Task[None]

    async def check(self, within: float = 20) -> None:
        """Everybody has exactly what is in the log, once, in order; all that was acknowledged is there."""
        self.writing.cancel()
        last = max(self.writer.acknowledged.values())

        async def all_there() -> bool:
            return all(last in follower.seqs(self.dialog_id) for follower in self.followers)

        await until(all_there, True, within=within)
        for follower in self.followers:
            seqs = follower.seqs(self.dialog_id)
            assert seqs == list(range(2, len(seqs) + 2))
            texts = {
                event.message_created.content.text: event.seq
                for event in follower.events
                if event.dialog_id == self.dialog_id
            }
            assert self.writer.acknowledged.items() <= texts.items()


@pytest.fixture
async def scene(pair: Stack) -> AsyncIterator[Scene]:
    """People who talk all the time."""
    async with Clients.of(pair) as clients, messaging(pair) as stub:
        ann, bob = await clients.register(), await clients.register()
        dialog_id = await _dialog(clients, ann, bob)
        followers = [Follower(stub, person) for person in (ann, ann, bob, bob)]
        tasks = [asyncio.create_task(follower.run()) for follower in followers]
        await asyncio.gather(*(follower.live.wait() for follower in followers))
        writer = Writer(stub, ann, dialog_id)
        writing = asyncio.create_task(writer.run())
        yield Scene(dialog_id, writer, followers, writing)
        for task in (writing, *tasks):
            task.cancel()
        await asyncio.gather(writing, *tasks, return_exceptions=True)


async def _dialog(clients: Clients, ann: Person, bob: Person) -> str:
    """Their direct dialog; what was killed by the test before may still make calls fail."""
    made: dict[str, str] = {}

    async def answers() -> bool:
        reply = await clients.rest.call("POST", "/v1/dialogs", {"participants": [bob.id]}, token=ann.token)
        made.update(reply.body)
        return reply.code in (200, 201)

    await until(answers, True, within=20)
    return made["id"]


async def _serves(stack: Stack, replica: str) -> bool:
    address = addresses(stack)[REPLICAS.index(replica)]
    settings = ServiceSettings(**settings_of("edge", stack.pki))
    channel = channels.channel([address], "messaging", settings)
    try:
        return await channels.is_serving(channel, 1)
    finally:
        await channel.close(None)


async def _more(scene: Scene, count: int) -> None:
    """Returns when so many more messages were acknowledged."""
    enough = len(scene.writer.acknowledged) + count

    async def written() -> bool:
        return len(scene.writer.acknowledged) >= enough

    await until(written, True, within=30)


@pytest.mark.parametrize("part", [*REPLICAS, "nats", "postgres"])
async def test_streams_survive_that_a_part_is_killed(pair: Stack, scene: Scene, part: str) -> None:
    await _more(scene, 30)
    pid = parts.kill(pair, part)
    await _more(scene, 30)
    await parts.another(pair, part, pid)
    await parts.well(pair, within=30)
    await _more(scene, 30)
    await scene.check()


@pytest.mark.long
async def test_streams_survive_parts_killed_at_random(pair: Stack, scene: Scene) -> None:
    chance = random.Random(7)
    for _ in range(4):
        part = chance.choice((*REPLICAS, "nats", "postgres"))
        pid = parts.kill(pair, part)
        await _more(scene, chance.randrange(5, 40))
        await parts.another(pair, part, pid)
        await parts.well(pair, within=30)
    await scene.check()


async def test_a_rolling_stop_fails_no_call_and_streams_go_on_within_two_seconds(
    pair: Stack, scene: Scene
) -> None:
    await _more(scene, 20)
    # What was killed by the test before may have cost a call.
    scene.writer.failures.clear()
    for replica in REPLICAS:
        pid = parts.pid_of(pair, replica)
        os.kill(pid, signal.SIGTERM)
        await parts.another(pair, replica, pid, within=30)
        await until(partial(_serves, pair, replica), True, within=30)
        # Meanwhile callers connect to it again, which they try every second.
        await _more(scene, 300)
    assert scene.writer.failures == []
    await scene.check()
    assert {reason for follower in scene.followers for reason in follower.ends} == {"DRAINING"}
    # This is a bar of the contract: 2 s.
    assert max(pause for follower in scene.followers for pause in follower.pauses) < 2
