"""Devices that follow live streams, and several replicas of messaging that they are on."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.messaging.v1.messaging_service_pb2_grpc import MessagingServiceStub
from services.mesh.app import App
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from services.stack.serve import Running
from tests.support.bus import NatsServer
from tests.support.chat import Talker
from tests.support.databases import Clone, messaging_app
from tests.support.mesh import Minter, channel_as
from tests.support.waiting import until


class Device:
    """One device of somebody: follows a stream, keeps all it got, and knows where it is."""

    def __init__(self, stub: MessagingServiceStub, token: str, *, name: str = "", resume: str = "") -> None:
        self.stub = stub
        self.token = token
        self.name = name
        self.resume = resume
        self.frames: list[frame_pb2.Frame] = []
        self.end: frame_pb2.End | None = None
        self.error: grpc.aio.AioRpcError | None = None
        self._call: Any = None
        self._task: asyncio.Task[None] | None = None

    @property
    def metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.token}")]

    def open(self) -> Device:
        """Begins to follow by Subscribe."""
        request = pb.SubscribeRequest(resume=self.resume, device_id=self.name)
        self._call = self.stub.Subscribe(request, metadata=self.metadata)
        self._task = asyncio.create_task(self._follow(self._call))
        return self

    async def close(self) -> None:
        """Goes away without a word."""
        if self._call is not None:
            self._call.cancel()
        if self._task is not None:
            await self._task

    async def _follow(self, call: Any) -> None:
        try:
            async for frame in call:
                self.take(frame)
        except grpc.aio.AioRpcError as error:
            self.error = error
        except asyncio.CancelledError:
            if not call.cancelled():
                raise

    def take(self, frame: frame_pb2.Frame) -> None:
        """Works through a frame."""
        self.frames.append(frame)
        if frame.resume:
            self.resume = frame.resume
        if frame.HasField("end"):
            self.end = frame.end

    def events(self, dialog_id: str) -> list[frame_pb2.Event]:
        """What it got of a dialog, in the order in which it came."""
        return [event for frame in self.frames for event in frame.events if event.dialog_id == dialog_id]

    def seqs(self, dialog_id: str) -> list[int]:
        """Numbers of that."""
        return [event.seq for event in self.events(dialog_id)]

    def all(self, name: str) -> list[Any]:
        """All entries of a repeated field of frames."""
        return [one for frame in self.frames for one in getattr(frame, name)]

    @property
    def is_live(self) -> bool:
        return any(frame.live for frame in self.frames)

    async def live(self) -> Device:
        """Returns when all that was missed is there."""
        await self.becomes(lambda: self.is_live)
        return self

    async def becomes(self, wanted: Any, within: float = 20) -> float:
        """Waits until something is true of it."""

        async def ask() -> bool:
            if self._task is not None and self._task.done() and not wanted():
                raise AssertionError(f"the stream is over: {self.error or self.end}")
            return bool(wanted())

        return await until(ask, True, within=within)

    async def has(self, dialog_id: str, last: int, within: float = 20) -> float:
        """Waits for event `last` of a dialog; returns the seconds it took."""
        return await self.becomes(lambda: last in self.seqs(dialog_id), within)

    async def ends(self, within: float = 20) -> frame_pb2.End | None:
        """Waits until the stream is over; its end frame."""
        assert self._task is not None
        await asyncio.wait_for(asyncio.shield(self._task), within)
        return self.end


class Talk(Device):
    """A device that speaks over its stream, too: Connect. With a `channel` it may send bytes of any kind."""

    channel: grpc.aio.Channel | None = None

    def say(self, frame: frame_pb2.ConnectRequest) -> None:
        """Sends a frame."""
        self._outgoing.put_nowait(frame)

    def hang_up(self) -> None:
        """Says that nothing more will be said."""
        self._outgoing.put_nowait(None)

    def open(self) -> Talk:
        """Begins to follow by Connect."""
        self._outgoing: asyncio.Queue[Any] = asyncio.Queue()
        connect = self.stub.Connect
        if self.channel is not None:
            # Bytes that no client of ours would send.
            connect = self.channel.stream_stream(
                "/sampan.messaging.v1.MessagingService/Connect",
                request_serializer=_raw,
                response_deserializer=frame_pb2.Frame.FromString,
            )
        self._call = connect(self._words(), metadata=self.metadata)
        self._task = asyncio.create_task(self._follow(self._call))
        return self

    def greet(self) -> Talk:
        """Says where it is and who."""
        self.say(frame_pb2.ConnectRequest(hello=frame_pb2.Hello(resume=self.resume, device_id=self.name)))
        return self

    async def _words(self) -> AsyncIterator[frame_pb2.ConnectRequest]:
        while (frame := await self._outgoing.get()) is not None:
            yield frame

    async def reply(self, ref: str) -> frame_pb2.Reply:
        """Waits for what became of a frame."""
        found: list[frame_pb2.Reply] = []

        def there() -> bool:
            found[:] = [one for one in self.all("replies") if one.ref == ref]
            return bool(found)

        await self.becomes(there)
        return found[0]


def _raw(frame: Any) -> bytes:
    return frame if isinstance(frame, bytes) else frame.SerializeToString()


@dataclass
class Replica:
    """One process of messaging, in the test's own."""

    app: App
    running: Running
    stub: MessagingServiceStub
    channel: grpc.aio.Channel

    async def waiting(self) -> int:
        """Messages that wait to be written."""
        figures = [figure for observe in self.app.observed for figure in await observe()]
        return sum(int(one.value) for one in figures if one.name == "sampan_group_commit_queue")

    @property
    def live(self) -> Any:
        """Its live delivery, to look at."""
        return self.app.drain.__self__  # type: ignore[attr-defined]

    @property
    def hub(self) -> Any:
        """The middle of that."""
        return self.live.hub

    @property
    def desk(self) -> Any:
        """Where frames of clients are taken."""
        return self.live.desk


class Chat:
    """Replicas of messaging on one database, and people who use them."""

    def __init__(self, replicas: Sequence[Replica], minter: Minter, accounts: asyncpg.Connection) -> None:
        self.replicas = replicas
        self.minter = minter
        self._accounts = accounts
        self._devices: list[Device] = []

    async def people(self, count: int) -> list[Talker]:
        """New people, at the first replica."""
        ids = [uuid.uuid4() for _ in range(count)]
        await self._accounts.executemany(
            "INSERT INTO accounts (id, username, display_name) VALUES ($1, $2, $2)",
            [(one, f"u{one.hex}") for one in ids],
        )
        return [Talker(self.replicas[0].stub, str(one), self.minter.token(str(one))) for one in ids]

    def device(self, who: Talker, replica: int = 0, *, token: str = "", **more: Any) -> Device:
        """A device of somebody that follows by Subscribe at a replica."""
        device = Device(self.replicas[replica].stub, token or who.token, **more)
        self._devices.append(device)
        return device.open()

    def talk(self, who: Talker, replica: int = 0, *, token: str = "", raw: bool = False, **more: Any) -> Talk:
        """One that follows and speaks by Connect."""
        device = Talk(self.replicas[replica].stub, token or who.token, **more)
        device.channel = self.replicas[replica].channel if raw else None
        self._devices.append(device)
        return device.open()

    def at(self, replica: int, who: Talker) -> Talker:
        """Somebody, as they call another replica."""
        return Talker(self.replicas[replica].stub, who.id, who.token)

    async def hears(self, wanted: bool) -> None:
        """Waits until all replicas can tell each other something, or none can."""

        async def ask() -> set[bool]:
            return {not replica.live._link.is_away for replica in self.replicas}

        await until(ask, {wanted}, within=20)

    async def close(self) -> None:
        """Ends all devices."""
        for device in self._devices:
            with contextlib.suppress(asyncio.CancelledError):
                await device.close()
        self._devices.clear()


@asynccontextmanager
async def chat(
    database: Clone,
    identity: tuple[App, str],
    accounts_url: str,
    pki: Pki,
    nats: NatsServer | None,
    replicas: int = 2,
    peers: dict[str, list[str]] | None = None,
    **settings: Any,
) -> AsyncIterator[Chat]:
    """Messaging, as many times as wanted, behind the production chain."""
    minter = Minter()
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": [identity[1]], **(peers or {})})
    if nats is not None:
        settings["nats_url"] = nats.url("messaging")
    accounts = await asyncpg.connect(accounts_url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(accounts.close)
        made = []
        for _ in range(replicas):
            app = await messaging_app(database, pki, mesh, minter, None, **settings)
            running = Running(app, mesh)
            await running.start()
            stack.push_async_callback(running.stop, notice=0, grace=0)
            channel = await stack.enter_async_context(
                channel_as("edge", running.server.address, "messaging", pki)
            )
            made.append(Replica(app, running, MessagingServiceStub(channel), channel))
        found = Chat(made, minter, accounts)
        stack.push_async_callback(found.close)
        yield found
