"""Looks for what nobody told: events and memberships that are in the database and were not heard of."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from services.mesh.errors import SampanError
from services.messaging.live.dialog import Person
from services.messaging.live.hub import Hub
from services.messaging.live.link import Link, batches
from services.messaging.live.opening import Opening
from services.messaging.repository_live import LiveRepository

# Seconds between looks: at dialogs that had events lately, at all, and at all while the bus is away.
_RECENT = 2.0
_ALL = 30.0
_AWAY = 0.6
# How long a dialog counts as one that had events lately.
_LATELY = 30.0
_SLICE = 0.1
_DIALOGS = 5000
# People whose dialogs are read again in one look, usually and while the bus is away.
_PEOPLE = 200
_PEOPLE_AWAY = 1000


class Watch:
    """Compares what was told with the log. A lost last event shows no gap, so somebody has to look."""

    def __init__(
        self, hub: Hub, link: Link, opening: Opening, repository: LiveRepository, log: FilteringBoundLogger
    ) -> None:
        self._hub = hub
        self._link = link
        self._opening = opening
        self._repository = repository
        self._log = log
        self._round: list[Person] = []
        self._round_at = float("-inf")

    async def run(self) -> None:
        """Looks for ever, until cancelled."""
        recent_at = all_at = people_at = time.monotonic()
        state = (self._link.epoch, True)
        while True:
            await asyncio.sleep(_SLICE if self._hub.people else _AWAY)
            now = time.monotonic()
            away = self._link.is_away
            if (self._link.epoch, away) != state:
                # Gone or back: something may have got lost.
                state = (self._link.epoch, away)
                all_at = people_at = float("-inf")
            if now - all_at >= (_AWAY if away else _ALL):
                all_at = recent_at = now
                await self._look(list(self._hub.dialogs))
            elif now - recent_at >= _RECENT:
                recent_at = now
                self._prune(now)
                await self._look([dialog.id for dialog in self._hub.active])
            if now - people_at >= (_AWAY if away else _RECENT):
                people_at = now
                await self._look_at_people(away=away)

    async def _look(self, dialog_ids: list[UUID]) -> None:
        try:
            for some in batches(dialog_ids, _DIALOGS):
                for dialog_id, seq in await self._repository.heads(some):
                    self._hub.expect_of(dialog_id, seq)
        except SampanError as error:
            self._log.warning("live.heads_unknown", reason=error.reason)

    async def _look_at_people(self, *, away: bool) -> None:
        """In turn everybody's dialogs are read again: a hint that they joined or left may have got lost."""
        now = time.monotonic()
        if not self._round and (away or now - self._round_at >= _ALL):
            self._round_at = now
            self._round = list(self._hub.people.values())
        for _ in range(_PEOPLE_AWAY if away else _PEOPLE):
            if not self._round:
                return
            self._opening.look_again(self._round.pop())

    def _prune(self, now: float) -> None:
        """Forgets the newest events of dialogs that have become quiet."""
        quiet = [dialog for dialog, at in self._hub.active.items() if now - at > _LATELY]
        for dialog in quiet:
            del self._hub.active[dialog]
            dialog.forget()
        if now - self._round_at < _RECENT:
            for dialog in self._hub.dialogs.values():
                if dialog not in self._hub.active:
                    dialog.forget()
