"""What every service with a database stands on, built from its settings in one way for all."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import SecretStr

from services.mesh import logs
from services.mesh.bus import Bus
from services.mesh.consumer import Consumer, Handler
from services.mesh.database import Database
from services.mesh.fast_database import FastDatabase
from services.mesh.group_commit import GroupCommit, Limits
from services.mesh.idempotency import Idempotency, Stretch, Sweeper
from services.mesh.metrics import Observe
from services.mesh.outbox import Keeper, Outbox
from services.mesh.outbox_source import OutboxSource
from services.mesh.paging import PageTokens
from services.mesh.posting import Store
from services.mesh.relay import BATCH, Relay, Source
from services.mesh.settings import DatabaseSettings, MeshSettings
from services.mesh.vault import Vault

Entry = TypeVar("Entry")
Result = TypeVar("Result")
# Seconds that entries which wait for a batch get to be written, when the service stops.
_GRACE = 5.0


class Foundation:
    """Parts for a composition root, which asks for those that its service uses.

    `background` and `observed` grow with each, and are the app's; `close` is the last of its closers.
    """

    def __init__(self, name: str, mesh: MeshSettings, settings: DatabaseSettings) -> None:
        self.log = logs.logger(name)
        self.database = Database(
            settings.database_url.get_secret_value(),
            pool=settings.database_pool,
            timeout=settings.database_timeout,
            name=name,
        )
        self.vault = Vault(base64.b64decode(settings.master_key.get_secret_value()))
        self.background: list[Callable[[], Awaitable[None]]] = []
        self.observed: list[Observe] = [self.database.observe]
        self._name = name
        self._mesh = mesh
        self._settings = settings
        self._bus: Bus | None = None
        # In the order in which they are closed.
        self._groups: list[Callable[[float], Awaitable[None]]] = []
        self._fast: list[FastDatabase] = []

    def idempotency(self, stretch: Stretch | None = None) -> Idempotency:
        """Keys of requests, which are forgotten in time; `stretch` if requests hold passwords."""
        sweeper = Sweeper(self.database, self._settings.idempotency_keep_hours, self.log)
        self.background.append(sweeper.run)
        return Idempotency(self.vault.derive("idempotency"), stretch)

    def page_tokens(self, scope: str) -> PageTokens:
        """Signs page tokens of one list of this service."""
        return PageTokens(self.vault.derive("page-tokens"), scope)

    def fast_database(self, purpose: str, pool: int) -> FastDatabase:
        """`pool` more connections to the database, for a hot path, known by its purpose."""
        database = FastDatabase(
            self._settings.database_url.get_secret_value(),
            pool=pool,
            timeout=self._settings.database_timeout,
            name=f"{self._name} {purpose}",
        )
        self._fast.append(database)
        self.observed.append(database.observe)
        return database

    def group_commit(
        self, store: Store[Entry, Result], limits: Limits, size: Callable[[Entry], int] | None = None
    ) -> GroupCommit[Entry, Result]:
        """Writes in batches; what waits when the service stops is written."""
        group = GroupCommit(store, limits=limits, size=size, log=self.log)
        self._groups.append(group.close)
        self.observed.append(group.observe)
        return group

    def bus(self, url: SecretStr) -> Bus:
        """The one connection to the bus, under this service's credentials."""
        if self._bus is None:
            self._bus = Bus(url.get_secret_value(), self._name, self.log)
            self.background.append(self._bus.run)
            self.observed.append(self._bus.observe)
        return self._bus

    def outbox(self) -> Outbox:
        """Events of this service, and the relay that publishes them. Without a bus they wait."""
        keeper = Keeper(self.database, self.log, days=self._mesh.outbox_keep_days)
        self.background.append(keeper.run)
        self.observed.append(keeper.observe)
        relay = self.relay(OutboxSource())
        return Outbox(relay.wake if relay is not None else _nobody_to_wake)

    def relay(
        self,
        source: Source,
        subjects: Sequence[str] = (),
        *,
        most: int = BATCH,
        gather: float = 0.0,
        ease: float = 0.0,
    ) -> Relay | None:
        """Publishes what a source has, as one relay of the database. Without a bus it is None."""
        bus = self._connected()
        if bus is None:
            return None
        relay = Relay(
            self._settings.database_url.get_secret_value(),
            self._name,
            bus,
            source,
            self._mesh,
            self.log,
            timeout=self._settings.database_timeout,
            subjects=subjects,
            most=most,
            gather=gather,
            ease=ease,
        )
        self.background.append(relay.run)
        return relay

    def consume(self, context: str, handlers: Mapping[str, Handler], *, together: bool = False) -> None:
        """Has another context's events handled; `together`: several at once. Without a bus there are none."""
        bus = self._connected()
        if bus is not None:
            consumer = Consumer(
                self._name, context, handlers, bus, self.database, self._mesh, self.log, together=together
            )
            self.background += [consumer.run, consumer.replay, consumer.purge]
            self.observed.append(consumer.observe)

    async def close(self) -> None:
        """Closes the bus, then what writes to the database, then the database."""
        if self._bus is not None:
            await self._bus.close()
        for close in self._groups:
            await close(_GRACE)
        for database in self._fast:
            await database.close()
        await self.database.close()

    def _connected(self) -> Bus | None:
        """The one connection to the bus; None without one in the settings."""
        url = self._settings.nats_url
        return None if url is None else self.bus(url)


def _nobody_to_wake() -> None:
    """Without a bus, events wait in the outbox."""
