"""A NATS server of a test's own, with the rights that the stack gives; it can be killed and robbed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from services.mesh import liveness, logs
from services.mesh.bus import Bus
from services.mesh.outbox_source import OutboxSource
from services.mesh.relay import Relay
from services.mesh.settings import MeshSettings
from services.stack import binaries, nats_part
from services.stack.secrets import Secrets, complete, new_password
from services.stack.topology import SERVICES
from tests.support.databases import Clone
from tests.support.stack import free_port
from tests.support.waiting import until

# May do everything.
ADMIN = "admin"

log = logs.logger("tests")


class NatsServer:
    """One server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = Secrets()
        complete(self.secrets, SERVICES)
        self.secrets.nats_users[ADMIN] = new_password()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, user: str) -> str:
        """How a user enters."""
        return nats_part.url(user, self.secrets, self.port)

    async def start(self) -> None:
        """Until it answers."""
        config = self.folder / "nats.conf"
        settings = json.loads(nats_part.configuration(self.secrets, self.port, str(self.folder / "store")))
        for user in settings["authorization"]["users"]:
            if user["user"] == ADMIN:
                del user["permissions"]
        config.write_text(json.dumps(settings))
        # Not by asyncio: uvloop forks, and in the child gRPC's fork handlers may abort or wait for ever.
        self._process = subprocess.Popen(
            (str(binaries.nats_server()), "--config", str(config)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        async def answers() -> bool:
            return await liveness.nats("127.0.0.1", self.port)

        await until(answers, wanted=True, within=20)

    async def freeze(self) -> None:
        """Takes connections and answers nothing: worse than being gone."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    async def thaw(self) -> None:
        """Goes on."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """kill -9."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def lose_store(self) -> None:
        """Removes all that JetStream kept."""
        shutil.rmtree(self.folder / "store")

    @asynccontextmanager
    async def client(self, user: str) -> AsyncIterator[Client]:
        """A plain client; errors that the server tells go to its `told`."""
        told: list[str] = []

        async def hear(error: Exception) -> None:
            told.append(str(error))

        client = await nats.connect(self.url(user), error_cb=hear, inbox_prefix=f"_INBOX.{user}")
        client.told = told
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def nats_server(folder: Path) -> AsyncIterator[NatsServer]:
    """A running server."""
    server = NatsServer(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


@asynccontextmanager
async def on_bus(server: NatsServer, service: str) -> AsyncIterator[Bus]:
    """A service's connection."""
    bus = Bus(server.url(service), service, log)
    async with background(bus.run()):
        yield bus
        await bus.close()


@asynccontextmanager
async def relaying(database: Clone, bus: Bus, mesh: MeshSettings, **more: float) -> AsyncIterator[Relay]:
    """Identity's relay."""
    relay = Relay(database.runtime_url, "identity", bus, OutboxSource(), mesh, log, timeout=4, **more)
    async with background(relay.run()):
        yield relay


async def kept_in(client: Client, user: str, stream: str) -> list[Msg]:
    """All messages of a stream, in its order; asked by a user, by a consumer of its own, once."""
    jetstream = client.jetstream()
    consumer = ConsumerConfig(name=user, inactive_threshold=5, ack_policy=AckPolicy.NONE)
    await jetstream.add_consumer(stream, consumer)
    pulled = await jetstream.pull_subscribe_bind(user, stream)
    pending = (await jetstream.consumer_info(stream, user)).num_pending or 0
    found: list[Msg] = []
    while len(found) < pending:
        found += await pulled.fetch(min(500, pending - len(found)), timeout=5)
    return found


@asynccontextmanager
async def background(*work: object) -> AsyncIterator[None]:
    """Work that is cancelled at the end of the block; if it ended before, with its error."""
    tasks = [asyncio.ensure_future(one) for one in work]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
