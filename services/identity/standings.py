"""How people stand: their KYC tier and whether they are suspended; and payment, which must know it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from services.identity import repository, repository_standings
from services.identity.domain import AccountStatus, Standing
from services.identity.sessions import Sessions
from services.mesh.database import Database
from services.mesh.errors import NotFound, SampanError
from services.mesh.idempotency import Idempotency, Key
from services.mesh.resting import rest

# People of whom payment is told in one go.
_ROUND = 100
_AT_ONCE = 8
# While payment cannot be told, somebody may be waiting for it.
_AWAY_SECONDS = 1.0

Change = Callable[[AsyncConnection, UUID], Awaitable[None]]


class Teller(Protocol):
    """Whoever has to know."""

    async def tell(self, standing: Standing) -> None:
        """Tells of one person. Raises SampanError when nobody answers."""
        ...


class Announcer:
    """Tells of what has changed until it is known: at once, or as background work.

    That looks every `interval` seconds for what others have left.

    What is not known yet stands in the account's row, so that no crash forgets it.
    """

    def __init__(
        self, database: Database, teller: Teller, log: FilteringBoundLogger, *, interval: float
    ) -> None:
        self._database = database
        self._teller = teller
        self._log = log
        self._interval = interval
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Says that there may be somebody to tell of."""
        self._woken.set()

    async def now(self, account_id: UUID) -> None:
        """Tells of one person at once; what fails is told later."""
        async with self._database.reading() as connection:
            standing = await repository_standings.untold_of(connection, account_id)
        if standing is not None:
            await self._tell(standing)

    async def run(self) -> None:
        """Until cancelled. Nothing that is away ends it."""
        away = False
        while True:
            self._woken.clear()
            was_away, away = away, not await self.all()
            if away and not was_away:
                self._log.warning("standings.postponed")
            await rest(self._woken, min(_AWAY_SECONDS, self._interval) if away else self._interval)

    async def all(self) -> bool:
        """Tells of all that is not known; False when somebody could not be told."""
        while True:
            try:
                async with self._database.reading() as connection:
                    found = await repository_standings.untold(connection, _ROUND)
            except SampanError:
                return False
            if not all(await asyncio.gather(*(self._tell(one) for one in found))):
                return False
            if len(found) < _ROUND:
                return True

    async def _tell(self, standing: Standing) -> bool:
        """Tells of one person and writes down that it is known. Both may be done twice."""
        try:
            async with self._room:
                await self._teller.tell(standing)
            async with self._database.transaction("standing_told") as connection:
                await repository_standings.keep_told(connection, standing)
        except SampanError:
            return False
        return True


class Standings:
    """What an operator decides about people."""

    def __init__(
        self, database: Database, sessions: Sessions, idempotency: Idempotency, announcer: Announcer
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._idempotency = idempotency
        self._announcer = announcer

    async def set_kyc_tier(self, user: str, tier: int, key: Key | None = None) -> Standing:
        """Sets how well somebody is known, by user name or id. Raises NotFound."""

        async def change(connection: AsyncConnection, account_id: UUID) -> None:
            await repository.set_kyc_tier(connection, account_id, tier)

        return await self._change("set_kyc_tier", user, change, key)

    async def set_status(
        self, user: str, status: AccountStatus, key: Key | None = None, *, end_sessions: bool
    ) -> Standing:
        """Suspends or restores somebody, by user name or id. Raises NotFound."""

        async def change(connection: AsyncConnection, account_id: UUID) -> None:
            await repository_standings.set_status(connection, account_id, status)
            if end_sessions:
                await self._sessions.end_all(connection, account_id)

        return await self._change("set_status", user, change, key)

    async def _change(self, step: str, user: str, change: Change, key: Key | None) -> Standing:
        """A repeated request changes nothing and is answered with the person as they are now."""
        async with self._database.transaction(step) as connection:
            repeated = await self._idempotency.claim(connection, key) is not None
            account_id = await repository.find_account(connection, user)
            if account_id is None:
                raise NotFound("there is no such person: give the user name or the id")
            if not repeated:
                await change(connection, account_id)
            standing = await repository_standings.standing(connection, account_id)
        await self._announcer.now(account_id)
        return standing
