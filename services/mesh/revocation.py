"""Sessions that ended before their access tokens did: every service keeps the list and hears what is new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from services.mesh.call import User
from services.mesh.clock import Clock
from services.mesh.errors import DeadlineExceeded, SampanError, Unavailable

# Identity says something this often, in seconds, be it that there is nothing new; and who has heard nothing
# for longer than that asks anew.
HEARTBEAT = 2.0
_PATIENCE = 2 * HEARTBEAT
_RETRY = 0.2


@dataclass(frozen=True, slots=True)
class Revocation:
    """One ended session. `number` counts commits; from `until` on no token of it is valid anyway."""

    number: int
    session_id: str
    until: float


@dataclass(frozen=True, slots=True)
class Page:
    """The next revocations in order; `complete` when these are all that there are by now."""

    revocations: Sequence[Revocation]
    complete: bool


# Revocations after a number, in order, without an end. Raises SampanError when they cannot be had.
Watch = Callable[[int], AsyncGenerator[Page]]


async def nothing_revoked(_after: int) -> AsyncGenerator[Page]:
    """For services that ask nobody for a token."""
    while True:
        yield Page((), complete=True)
        await asyncio.sleep(HEARTBEAT)


class Revocations:
    """The list as this process knows it. `load` before serving, then `follow` until cancelled."""

    def __init__(
        self, watch: Watch, clock: Clock, log: FilteringBoundLogger, *, patience: float = _PATIENCE
    ) -> None:
        self._watch = watch
        self._clock = clock
        self._log = log
        self._patience = patience
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

    def require_heard(self, within: float) -> None:
        """Raises Unavailable when the list was not known to be complete `within` so many seconds."""
        if self.silent_seconds > within:
            raise Unavailable("it is not known who is signed in: try again")

    async def load(self) -> None:
        """Reads the whole list, however long it takes identity to be there."""
        while not await self._try(whole=True):
            await asyncio.sleep(_RETRY)

    async def follow(self) -> None:
        """Keeps the list fresh, and forgets what no token can be valid for any more."""
        while True:
            await self._try(whole=False)
            await asyncio.sleep(_RETRY)

    async def _try(self, *, whole: bool) -> bool:
        """Listens until the list is `whole`, or for ever; False when nobody says anything more."""
        try:
            async with aclosing(self._watch(self._last)) as pages:
                while (page := await self._next(pages)) is not None:
                    self._take(page)
                    if whole and page.complete:
                        return True
        except SampanError as error:
            self._log.warning("revocations.unknown", reason=error.reason)
        return False

    async def _next(self, pages: AsyncGenerator[Page]) -> Page | None:
        try:
            async with asyncio.timeout(self._patience):
                return await anext(pages, None)
        except TimeoutError:
            raise DeadlineExceeded from None

    def _take(self, page: Page) -> None:
        for one in page.revocations:
            self._ended[one.session_id] = one.until
            self._last = max(self._last, one.number)
            for told in self.listeners:
                told(one.session_id)
        if page.complete:
            self._heard_at = self._clock()
            self._forget()

    def _forget(self) -> None:
        now = self._clock()
        if self._ended and next(iter(self._ended.values())) < now:
            self._ended = {session: until for session, until in self._ended.items() if until >= now}
