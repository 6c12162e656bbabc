"""Preferences as this process knows them: read once, and kept right by asking what has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from services.mesh.database import Database
from services.mesh.errors import Unavailable
from services.presence import repository
from services.presence.domain import Preferences
from services.presence.settings import PresenceSettings

# A change is asked for again and again for so many seconds: longer than any transaction lasts.
_WINDOW = 10.0
# Nobody who has asked for nothing in so many seconds needs to know what changes.
_WANTED = 5.0
# Who could not ask for so long begins anew.
_GAP = 5.0


class KnownPreferences:
    """What a change says counts here within `preferences_fresh_seconds`, whatever happens to the bus.

    `clock` is monotonic. `follow` goes on until cancelled; without it every question goes to the database.
    """

    def __init__(
        self,
        database: Database,
        settings: PresenceSettings,
        clock: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        self._database = database
        self._fresh = settings.preferences_fresh_seconds
        self._poll = settings.preferences_poll_seconds
        self._capacity = settings.preferences_capacity
        self._clock = clock
        self._log = log
        self._known: dict[UUID, Preferences] = {}
        self._asked_at = float("-inf")
        self._wanted_at = float("-inf")
        self._wanted = asyncio.Event()
        self._reached = True
        # Counts what was learned of changes, so that an older answer is not kept after a newer one.
        self._learned = 0

    @property
    def is_fresh(self) -> bool:
        """Whether what is known here counts."""
        return self._clock() - self._asked_at < self._fresh

    @property
    def is_reachable(self) -> bool:
        """Whether the database answered last time."""
        return self._reached

    async def of(self, users: Collection[UUID]) -> dict[UUID, Preferences]:
        """Preferences of everybody who is asked for. Raises Unavailable when some cannot be known."""
        self._wanted_at = self._clock()
        self._wanted.set()
        known = self._known if self.is_fresh else {}
        found = {user: known[user] for user in users if user in known}
        missing = set(users) - found.keys()
        if missing:
            found |= await self._read(missing)
        return found

    def learn(self, user: UUID, preferences: Preferences) -> None:
        """Takes note of a change that was made here."""
        self._learned += 1
        self._keep({user: preferences})

    async def follow(self) -> None:
        """Asks what has changed, as long as somebody wants to know."""
        while True:
            if self._reached and self._clock() - self._wanted_at > _WANTED:
                self._wanted.clear()
                await self._wanted.wait()
            try:
                await self._ask()
            except Unavailable:
                self._reached = False
                self._log.debug("preferences.unreachable")
            else:
                self._reached = True
            await asyncio.sleep(self._poll)

    async def _ask(self) -> None:
        begun = self._clock()
        async with self._database.reading() as connection:
            changed = await repository.changed_within(connection, _WINDOW)
        if begun - self._asked_at > _GAP:
            self._known.clear()
        self._asked_at = begun
        self._learned += 1
        self._keep(changed)

    async def _read(self, missing: Collection[UUID]) -> dict[UUID, Preferences]:
        learned = self._learned
        async with self._database.reading() as connection:
            rows = await repository.preferences_of(connection, missing)
        found = {user: rows.get(user, Preferences()) for user in missing}
        if learned == self._learned:
            self._keep(found)
        return found

    def _keep(self, found: dict[UUID, Preferences]) -> None:
        """A flood of people must not grow memory."""
        if len(self._known) + len(found) > self._capacity:
            self._known.clear()
        self._known |= found
