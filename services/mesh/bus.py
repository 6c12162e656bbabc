"""The connection of one service to NATS, kept up for ever in the background."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.client import JetStreamContext
from structlog.typing import FilteringBoundLogger

from services.mesh.metrics import Gauge
from services.mesh.subjects import inbox_of

# Seconds between two tries to reach the server, and to wait for what the server must answer.
_RECONNECT = 0.25
TIMEOUT = 5.0
# What a call over the bus may fail with; TimeoutError and OSError when the server is away.
BUS_ERRORS = (nats.errors.Error, OSError, TimeoutError)


class Bus:
    """A connection under a service's own credentials. It is no error when the server is away.

    `epoch` counts connections: what was asked in an earlier one gets no answer any more.
    """

    def __init__(self, url: str, service: str, log: FilteringBoundLogger) -> None:
        self._url = url
        self._service = service
        self._log = log
        self._heard: list[tuple[str, Callable[[bytes], None]]] = []
        self._use(Client())
        self._changed = asyncio.Condition()
        self._closing = False
        self.epoch = 0

    @property
    def is_connected(self) -> bool:
        """Whether the server is there."""
        return self._client.is_connected

    @property
    def subscriptions(self) -> int:
        """How many the server keeps for this connection."""
        return len(self._client._subs)

    async def observe(self) -> list[Gauge]:
        """Whether it is connected."""
        return [Gauge("sampan_bus_connected", "Whether NATS is there.", self.is_connected)]

    @property
    def jetstream(self) -> JetStreamContext:
        """JetStream's API. What it is asked while the server is away fails."""
        return self._jetstream

    def hear(self, subject: str, told: Callable[[bytes], None]) -> None:
        """Has what comes on a subject handed over, in every connection. To be said before `run`."""
        self._heard.append((subject, told))

    async def say(
        self, subject: str, payload: bytes, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Says something to those who listen just now; nothing of it is kept. Raises BUS_ERRORS."""
        await self._client.publish(subject, payload, reply, headers)

    async def answers(self) -> tuple[str, Subscription]:
        """A new place for answers, in this connection, and what comes below it. Raises BUS_ERRORS."""
        place = self._client.new_inbox()
        return place, await self._client.subscribe(f"{place}.*")

    async def flush(self) -> None:
        """Returns when the server has all that was said. Raises one of BUS_ERRORS."""
        await flushed(self._client)

    async def run(self) -> None:
        """Connects, and does so anew when the client has given up. Until cancelled; `close` comes after."""
        while True:
            try:
                await self._connect()
            except BUS_ERRORS as error:
                self._log.warning("bus.unreachable", error=type(error).__name__)
            else:
                await self._told(connected=True)
                await self._closed.wait()
            await asyncio.sleep(_RECONNECT)

    async def connected(self) -> int:
        """Waits until the server is there; returns the epoch."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.is_connected and self.epoch > 0)
        return self.epoch

    async def another(self, epoch: int) -> None:
        """Waits until the connection is another one than that of `epoch`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.epoch != epoch)

    async def close(self) -> None:
        """Closes the connection."""
        self._closing = True
        with contextlib.suppress(*BUS_ERRORS):
            await self._client.close()

    def _use(self, client: Client) -> None:
        self._client = client
        # One for each client: it keeps a subscription for the answers to what is published.
        self._jetstream = client.jetstream(timeout=TIMEOUT)

    async def _connect(self) -> None:
        self._use(Client())
        self._closed = asyncio.Event()
        await self._client.connect(
            self._url,
            name=self._service,
            inbox_prefix=inbox_of(self._service),
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT,  # type: ignore[arg-type]
            connect_timeout=2,
            ping_interval=5,
            max_outstanding_pings=2,
            error_cb=self._failed,
            disconnected_cb=self._lost,
            reconnected_cb=self._regained,
            closed_cb=self._given_up,
        )
        for subject, told in self._heard:
            await self._client.subscribe(subject, cb=_handing(told))
        if self._heard:
            # Who is told of the connection may count on hearing. A server that is gone again is looked for.
            with contextlib.suppress(*BUS_ERRORS):
                await flushed(self._client)

    async def _told(self, *, connected: bool) -> None:
        self.epoch += connected
        async with self._changed:
            self._changed.notify_all()
        self._log.info("bus.connected" if connected else "bus.lost", epoch=self.epoch)

    async def _failed(self, error: Exception) -> None:
        # Its text may hold the address with the password.
        self._log.debug("bus.error", error=type(error).__name__)

    async def _lost(self) -> None:
        if not self._closing:
            await self._told(connected=False)

    async def _regained(self) -> None:
        await self._told(connected=True)

    async def _given_up(self) -> None:
        self._closed.set()


async def flushed(client: Client) -> None:
    """Returns when the server has all that a client said or asked to hear. Raises one of BUS_ERRORS.

    The client sends a ping ahead of what still waits to be written: only the second comes after it.
    """
    for _ in range(2):
        await client.flush(timeout=TIMEOUT)  # type: ignore[arg-type]


def _handing(told: Callable[[bytes], None]) -> Callable[[Msg], Awaitable[None]]:
    async def hand(message: Msg) -> None:
        told(message.data)

    return hand
