"""Use case of acknowledging events. A transaction opens here only for requests that have an id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Key

# Keeps where a device of somebody is, unless it is older than what is kept.
Keep = Callable[[UUID, str, str], Awaitable[None]]


class AckService:
    """Keeps where devices are. Doing it again changes nothing, with an id or without."""

    def __init__(self, database: Database, keep: Keep, idempotency: Idempotency) -> None:
        self._database = database
        self._keep = keep
        self._idempotency = idempotency

    async def acknowledge(self, user_id: UUID, device_id: str, resume: str, key: Key | None = None) -> None:
        """Returns when it is kept. Raises ResumeTokenInvalid."""
        if key is None:
            await self._keep(user_id, device_id, resume)
            return
        async with self._database.transaction("ack_events") as connection:
            if await self._idempotency.claim(connection, key) is None:
                await self._keep(user_id, device_id, resume)
