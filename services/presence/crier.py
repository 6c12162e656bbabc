"""Tells who has come and gone: looks for leases that have run out, and says each change on the bus."""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from services.mesh.errors import Unavailable
from services.mesh.resting import rest
from services.presence.domain import to_tell
from services.presence.events import Voice
from services.presence.leases import Leases
from services.presence.preferences import KnownPreferences
from services.presence.settings import PresenceSettings

# Nobody rests for longer, in seconds: another process may have gone with what it had to tell.
_LONGEST = 1.0


class Crier:
    """One for each process; all of them share the work, and each change is told by one.

    A change that was claimed and could not be told is told again when its claim has run out. Nothing is
    claimed while the bus or the preferences are away: changes wait in Redis, and the last one of each person
    is told.
    """

    def __init__(
        self,
        leases: Leases,
        preferences: KnownPreferences,
        voice: Voice,
        settings: PresenceSettings,
        log: FilteringBoundLogger,
    ) -> None:
        self._leases = leases
        self._preferences = preferences
        self._voice = voice
        self._pause = settings.sweep_seconds
        self._batch = settings.sweep_batch
        self._log = log
        self._woken = asyncio.Event()
        self._due_in = 0.0

    def wake(self) -> None:
        """Says that somebody is due now."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._woken.clear()
            try:
                while await self._once() >= self._batch:
                    pass
            except Unavailable:
                # Redis has said so itself; no change is lost.
                self._log.debug("changes.postponed")
                await asyncio.sleep(self._pause)
            await rest(self._woken, max(self._pause, min(self._due_in, _LONGEST)))

    async def _once(self) -> int:
        """Tells what there is to tell; returns how many people were looked at. Raises Unavailable."""
        self._due_in = 0.0
        if not (self._voice.is_heard and self._preferences.is_reachable):
            return 0
        swept = await self._leases.sweep()
        self._due_in = swept.due_in
        if swept.changes:
            theirs = await self._preferences.of([change.user_id for change in swept.changes])
            told = [to_tell(change, theirs[change.user_id]) for change in swept.changes]
            await self._voice.changed([one for one in told if one is not None])
            await self._leases.told(swept.changes)
        return swept.looked_at
