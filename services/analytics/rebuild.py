"""Makes the figures anew, from what payment knows and the events that came after that.

Asked for by a row, which `sampan analytics rebuild` writes, so a process that dies does not forget it. Events
go on being added meanwhile. Replicas may do the same work; the first one to end has done it for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from services.analytics import repository
from services.analytics.domain import Known
from services.mesh.database import Database
from services.mesh.errors import SampanError
from services.mesh.ids import uuid7


class Bills(Protocol):
    """Who knows all bills."""

    async def after(self, user_id: UUID | None, limit: int) -> Sequence[Known]:
        """People with bills, by id, from the one after `user_id` on. Raises Unavailable."""
        ...


class Rebuilder:
    """Does what the operator asks for; looks every `pause` seconds, and takes `page` people at once."""

    def __init__(
        self, database: Database, bills: Bills, log: FilteringBoundLogger, *, pause: float, page: int
    ) -> None:
        self._database = database
        self._bills = bills
        self._log = log
        self._pause = pause
        self._page = page

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.once()
            except SampanError as error:
                self._log.warning("rebuild.postponed", reason=error.reason)
            await asyncio.sleep(self._pause)

    async def once(self) -> bool:
        """Rebuilds if that is wanted; whether this did it. Raises Unavailable or DeadlineExceeded."""
        async with self._database.reading() as connection:
            wanted_at = await repository.wanted(connection)
        if wanted_at is None:
            return False
        run = uuid7()
        people = await self._collect(run)
        async with self._database.transaction("rebuild") as connection:
            done = await repository.rebuild(connection, run, people, wanted_at)
        self._log.info("rebuild.ended", people=people, done=done)
        return done

    async def _collect(self, run: UUID) -> int:
        """Takes down what payment says; returns of how many people."""
        last, people = None, 0
        while known := await self._bills.after(last, self._page):
            async with self._database.transaction() as connection:
                await repository.collect(connection, run, known)
            last, people = known[-1].user_id, people + len(known)
        return people
