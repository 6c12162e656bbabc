"""Drops events that are older than a setting says, in the background."""

from __future__ import annotations

import asyncio
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from services.mesh.database import Database
from services.mesh.errors import SampanError
from services.messaging import repository_people

# Dialogs in a transaction, and events of each.
_DIALOGS = 200
_EVENTS = 1000
_START = UUID(int=0)


class Retention:
    """Small transactions, one after another, so that nobody waits for long. `days` 0: keeps all for ever."""

    def __init__(self, database: Database, log: FilteringBoundLogger, *, days: int, pause: float) -> None:
        self._database = database
        self._log = log
        self._days = days
        self._pause = pause

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if self._days:
                try:
                    while await self.once():
                        pass
                except SampanError as error:
                    self._log.warning("retention.postponed", error=error.reason)
            await asyncio.sleep(self._pause)

    async def once(self) -> int:
        """Goes through all dialogs; returns how many events it dropped. Raises Unavailable."""
        after, dropped = _START, 0
        while True:
            async with self._database.transaction("drop_expired") as connection:
                after, looked, gone = await repository_people.drop_expired(
                    connection, after, self._days, _DIALOGS, _EVENTS
                )
            dropped += gone
            if looked < _DIALOGS:
                return dropped
