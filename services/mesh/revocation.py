"""Sessions that ended before their access tokens did: every service keeps the list and asks what is new."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from services.mesh.call import User
from services.mesh.clock import Clock
from services.mesh.errors import SampanError

# Seconds between two questions, and after a failure. A revocation counts everywhere within 1 s.
INTERVAL = 0.5
_RETRY = 0.2


@dataclass(frozen=True, slots=True)
class Revocation:
    """One ended session. `number` counts commits; from `until` on no token of it is valid anyway."""

    number: int
    session_id: str
    until: float


# Revocations after a number, in order. Raises Unavailable when they cannot be had.
Fetch = Callable[[int], Awaitable[Sequence[Revocation]]]


async def nothing_revoked(_after: int) -> Sequence[Revocation]:
    """For services that ask nobody for a token."""
    return ()


class Revocations:
    """The list as this process knows it. `load` before serving, then `follow` until cancelled."""

    def __init__(
        self, fetch: Fetch, clock: Clock, log: FilteringBoundLogger, *, interval: float = INTERVAL
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._log = log
        self._interval = interval
        self._ended: dict[str, float] = {}
        # Told of each session that has ended, as soon as that is known here.
        self.listeners: list[Callable[[str], None]] = []
        self._last = 0
        self._heard_at = 0.0

    def is_revoked(self, user: User) -> bool:
        """Whether the session of a token has ended."""
        return user.session_id in self._ended

    @property
    def silent_seconds(self) -> float:
        """How long ago the list was last known to be complete."""
        return self._clock() - self._heard_at

    async def catch_up(self) -> None:
        """Asks once for all that is new. Raises Unavailable."""
        while found := await self._fetch(self._last):
            for one in found:
                self._ended[one.session_id] = one.until
                self._last = max(self._last, one.number)
                for told in self.listeners:
                    told(one.session_id)
        self._heard_at = self._clock()

    async def load(self) -> None:
        """Reads the whole list, however long it takes identity to be there."""
        while not await self._try():
            await asyncio.sleep(_RETRY)

    async def follow(self) -> None:
        """Keeps the list fresh, and forgets what no token can be valid for any more."""
        while True:
            await asyncio.sleep(self._interval)
            if await self._try():
                self._forget()

    async def _try(self) -> bool:
        try:
            await self.catch_up()
        except SampanError as error:
            self._log.warning("revocations.unknown", reason=error.reason)
            return False
        return True

    def _forget(self) -> None:
        now = self._clock()
        if self._ended and next(iter(self._ended.values())) < now:
            self._ended = {session: until for session, until in self._ended.items() if until >= now}
