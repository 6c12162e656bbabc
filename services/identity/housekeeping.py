"""What identity does by itself: forget what has expired, and read signing keys that others made."""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from services.identity import repository, repository_codes, repository_sessions
from services.identity.keyring import KeyRing
from services.mesh.database import Database
from services.mesh.errors import Unavailable


class Housekeeping:
    """Runs every `interval` seconds, and goes on when the database is away for a while."""

    def __init__(
        self, database: Database, keys: KeyRing, log: FilteringBoundLogger, *, interval: float
    ) -> None:
        self._database = database
        self._keys = keys
        self._log = log
        self._interval = interval

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.once()
            except Unavailable:
                self._log.warning("housekeeping.postponed")

    async def once(self) -> None:
        """One round. Raises Unavailable."""
        async with self._database.transaction() as connection:
            # Two replicas that delete the same rows may lock each other out.
            if await repository.alone_in_housekeeping(connection):
                await repository_codes.clear_challenges(connection)
                await repository_sessions.clear_revocations(connection)
        await self._keys.load()
