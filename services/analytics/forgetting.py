"""Forgets facts that count for nothing any more, as background work."""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from services.analytics import repository_forgetting as repository
from services.mesh.database import Database
from services.mesh.errors import SampanError

# People in one transaction: events wait for its end.
_PAGE = 200


class Forgetting:
    """Facts are kept for `days`; looks every `pause` seconds."""

    def __init__(self, database: Database, log: FilteringBoundLogger, *, days: int, pause: float) -> None:
        self._database = database
        self._log = log
        self._days = days
        self._pause = pause

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.once()
            except SampanError as error:
                self._log.warning("forgetting.postponed", reason=error.reason)
            await asyncio.sleep(self._pause)

    async def once(self) -> None:
        """Everybody's, once. Raises Unavailable."""
        last = None
        while True:
            async with self._database.reading() as connection:
                people = await repository.people(connection, last, _PAGE)
            if not people:
                return
            async with self._database.transaction("forget_facts") as connection:
                await repository.forget(connection, people, self._days)
            last = people[-1]
