"""Sends what is due: claims rows under a lease, sends outside any transaction, writes how it ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

from structlog.typing import FilteringBoundLogger

from services.mesh.database import Database
from services.mesh.errors import SampanError
from services.mesh.resting import rest
from services.mesh.vault import SealBroken
from services.notification import repository
from services.notification.domain import Channel, Status, retry_delay
from services.notification.letters import Letters
from services.notification.providers import Provider, SendFailed
from services.notification.repository import Claimed
from services.notification.settings import NotificationSettings

# Rows that one statement of the sweep deletes, at most: it shall hold no lock for long.
_SWEEP_LIMIT = 1000


class Worker:
    """One for each process; several processes share the work. A message is sent at least once.

    `providers` has those channels that have one. `run` and `sweep` go on until cancelled. Logs hold ids and
    words of ours: never an exception's text, which may hold an address.
    """

    def __init__(
        self,
        database: Database,
        letters: Letters,
        providers: Mapping[Channel, Provider],
        settings: NotificationSettings,
        log: FilteringBoundLogger,
    ) -> None:
        self._database = database
        self._letters = letters
        self._providers = providers
        self._settings = settings
        self._log = log
        self._woken = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Says that something is due now."""
        self._woken.set()

    async def run(self) -> None:
        """Sends what is due. When cancelled, lets what is being sent end, for a little."""
        try:
            while True:
                self._woken.clear()
                room = self._settings.concurrency - len(self._sending)
                claimed = await self._claim(room) if room else []
                for one in claimed:
                    task = asyncio.create_task(self._deliver(one))
                    self._sending.add(task)
                    task.add_done_callback(self._done)
                if len(claimed) < room or not room:
                    await rest(self._woken, self._settings.poll_seconds)
        finally:
            await self._drain()

    async def sweep(self) -> None:
        """Deletes what is older than it is kept."""
        settings = self._settings
        ages = {Status.SENT: settings.retention_seconds, Status.DEAD: settings.dead_retention_seconds}
        while True:
            try:
                for status, older in ages.items():
                    while await self._purge(status, older) == _SWEEP_LIMIT:
                        pass
            except SampanError as error:
                self._log.warning("sweep.failed", reason=error.reason)
            await asyncio.sleep(settings.sweep_seconds)

    async def _purge(self, status: Status, older: float) -> int:
        async with self._database.transaction() as connection:
            return await repository.purge(connection, status, older=older, limit=_SWEEP_LIMIT)

    async def _claim(self, room: int) -> Sequence[Claimed]:
        try:
            async with self._database.transaction() as connection:
                return await repository.claim(
                    connection, tuple(self._providers), limit=room, lease=self._settings.lease_seconds
                )
        except SampanError as error:
            self._log.warning("deliveries.unreachable", reason=error.reason)
            return ()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self.wake()

    async def _drain(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending, timeout=self._settings.drain_seconds)
        left = list(self._sending)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _deliver(self, claimed: Claimed) -> None:
        """Sends one and writes how it ended. Whatever goes wrong here, the end of the lease mends it."""
        try:
            failed = await self._send(claimed)
            await self._settle(claimed, failed)
        except SampanError as error:
            self._log.warning("delivery.unsettled", delivery=str(claimed.id), reason=error.reason)
        except Exception as error:
            self._log.error("delivery.crashed", delivery=str(claimed.id), error=type(error).__name__)

    async def _send(self, claimed: Claimed) -> SendFailed | None:
        if claimed.expired:
            return SendFailed("expired", final=True)
        if claimed.attempt > claimed.attempts_allowed:
            # Every try ended with its lease: it may be this message that ends processes.
            return SendFailed("abandoned", final=True)
        try:
            letter = self._letters.open(claimed.id, claimed.sealed)
            async with asyncio.timeout(self._settings.provider_timeout):
                await self._providers[claimed.channel].send(claimed.id, letter)
        except SendFailed as failed:
            return failed
        except SealBroken:
            return SendFailed("unreadable", final=True)
        except TimeoutError:
            return SendFailed("timeout")
        return None

    async def _settle(self, claimed: Claimed, failed: SendFailed | None) -> None:
        status, wait = Status.SENT, 0.0
        if failed is not None:
            last = failed.final or claimed.attempt >= claimed.attempts_allowed
            status = Status.DEAD if last else Status.PENDING
            wait = self._wait(claimed)
        async with self._database.transaction() as connection:
            ours = await repository.settle(
                connection, claimed, status, failure=failed.failure if failed else "", retry_after=wait
            )
        if failed is not None or not ours:
            self._log.warning(
                "delivery.failed" if failed else "delivery.late",
                delivery=str(claimed.id),
                channel=claimed.channel.value,
                attempt=claimed.attempt,
                failure=failed.failure if failed else "",
                status=status.value,
            )

    def _wait(self, claimed: Claimed) -> float:
        # Counted in this round: a replay begins with short waits again.
        attempt = claimed.attempt - (claimed.attempts_allowed - self._settings.max_attempts)
        return retry_delay(
            max(1, attempt),
            first=self._settings.retry_first_seconds,
            ceiling=self._settings.retry_ceiling_seconds,
            chance=random.random(),  # noqa: S311 - spreads load
        )
