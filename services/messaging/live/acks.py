"""Keeps where devices are: acknowledgements that arrive while a write is in flight share the next one."""

from __future__ import annotations

import asyncio
import time
from contextvars import Context
from uuid import UUID

from services.mesh.errors import SampanError, Unavailable
from services.messaging.live.resume import Tokens, packed
from services.messaging.repository_live import LiveRepository

# Devices of one person, at most; the others are forgotten by and by.
DEVICES = 50
_SWEEP = 3600.0


class Acks:
    """Writes down positions of devices. Of several for one device the newest counts."""

    def __init__(self, repository: LiveRepository, tokens: Tokens, *, days: int) -> None:
        self._repository = repository
        self._tokens = tokens
        self._days = days
        self._waiting: dict[tuple[UUID, str], tuple[bytes, int]] = {}
        self._written: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def keep(self, user_id: UUID, device_id: str, token: str) -> None:
        """Returns when it is kept. Raises ResumeTokenInvalid or Unavailable."""
        stamp = self._tokens.read(user_id, token, time.time()).stamp
        key = (user_id, device_id)
        if self._waiting.get(key, (b"", -1))[1] < stamp:
            self._waiting[key] = (packed(token), stamp)
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        written = self._written
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write(), context=Context())
        await asyncio.shield(written)

    async def run(self) -> None:
        """Forgets devices that have been silent for too long, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP)
            try:
                await self._repository.forget_devices(self._days, DEVICES)
            except SampanError:
                continue

    async def _write(self) -> None:
        try:
            while self._waiting and self._written is not None:
                some, self._waiting = self._waiting, {}
                written, self._written = self._written, None
                try:
                    # In one order, so that two processes do not wait for each other.
                    await self._repository.keep([(*key, *some[key]) for key in sorted(some)])
                except SampanError as error:
                    _fail(written, error)
                except BaseException:
                    _fail(written, Unavailable())
                    raise
                else:
                    written.set_result(None)
        finally:
            self._task = None


def _fail(written: asyncio.Future[None], error: SampanError) -> None:
    written.set_exception(error)
    # Nobody may be left to hear of it.
    written.exception()
