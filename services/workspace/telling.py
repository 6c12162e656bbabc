"""Has messaging know what workspace has decided: at once by whoever decides, else by the sweeper.

No transaction is open while messaging is asked. A crash anywhere leaves an errand whose lease runs out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Any

from sqlalchemy import Row
from structlog.typing import FilteringBoundLogger

from services.mesh.database import Database
from services.mesh.errors import DeadlineExceeded, FailedPrecondition, NotFound, SampanError, Unavailable
from services.mesh.resting import rest
from services.workspace import repository_errands as errands
from services.workspace import repository_invites
from services.workspace.domain import Channel, ChannelState, MemberState
from services.workspace.messaging_client import Messaging
from services.workspace.models import channel_members, channels
from services.workspace.repository_errands import Errand

# How often to look whether somebody else is done, in seconds.
_LOOK_AGAIN = 0.05
# What one round of the sweeper takes on, at most.
_ROUND = 50
_PURGE_LIMIT = 1000


class Teller:
    """Tells messaging of errands. A lease lasts `lease` seconds; who finds one taken waits `patience`."""

    def __init__(
        self,
        database: Database,
        messaging: Messaging,
        log: FilteringBoundLogger,
        *,
        lease: float,
        patience: float,
    ) -> None:
        self._database = database
        self._messaging = messaging
        self._log = log
        self.lease = lease
        self._patience = patience

    async def tell(self, errand: Errand, *, held: bool = False) -> None:
        """Returns when messaging knows; `held` says that the caller has the lease.

        Raises Unavailable or DeadlineExceeded when it could not be told now, or what it refuses it with.
        """
        ends = time.monotonic() + self._patience
        while True:
            async with self._database.transaction() as connection:
                row = await (
                    errands.held(connection, errand)
                    if held
                    else errands.claim(connection, errand, self.lease)
                )
                waits = row is None and await errands.is_untold(connection, errand)
            held = False
            if row is not None:
                await self._told(errand, row)
            elif not waits:
                return
            elif time.monotonic() > ends:
                raise Unavailable
            else:
                await asyncio.sleep(_LOOK_AGAIN)

    async def tell_or_later(self, errand: Errand) -> None:
        """Tells now if that can be done; otherwise the sweeper does it."""
        try:
            await self.tell(errand)
        except SampanError as error:
            self._log.warning("messaging.told_later", errand=errand.table.name, reason=error.reason)

    async def _told(self, errand: Errand, row: Row[Any]) -> None:
        try:
            await self._say(errand, row)
        except DeadlineExceeded:
            # It may still be at work there: the lease runs out before anything else is said.
            raise
        except SampanError as error:
            refused = isinstance(error, (NotFound, FailedPrecondition)) and errand.table is channel_members
            async with self._database.transaction() as connection:
                await (errands.drop if refused else errands.release)(connection, errand, row)
            raise
        async with self._database.transaction("told") as connection:
            await errands.settle(connection, errand, row)

    async def _say(self, errand: Errand, row: Row[Any]) -> None:
        if errand.table is channels:
            await self._say_channel(row)
        elif errand.table is channel_members:
            await self._say_member(row)
        else:
            await self._messaging.remove(row.workspace_id, row.user_id, row.changed_by, row.change_id)

    async def _say_channel(self, row: Row[Any]) -> None:
        if row.state == ChannelState.CLOSING:
            # One that was never made needs no closing.
            with contextlib.suppress(NotFound):
                await self._messaging.delete_channel(row.id, row.changed_by, row.change_id)
        elif row.state == ChannelState.PENDING:
            await self._messaging.create_channel(channel_of(row), row.change_id)
        else:
            await self._messaging.update_channel(channel_of(row), row.changed_by, row.change_id)

    async def _say_member(self, row: Row[Any]) -> None:
        if row.state == MemberState.REMOVING:
            await self._messaging.remove(
                row.workspace_id, row.user_id, row.changed_by, row.change_id, row.channel_id
            )
        else:
            await self._messaging.add(row.channel_id, row.user_id, row.changed_by, row.change_id)


class Sweeper:
    """Finishes what was begun and not ended, every `interval` seconds; forgets old invites."""

    def __init__(
        self,
        database: Database,
        teller: Teller,
        log: FilteringBoundLogger,
        *,
        interval: float,
        invites_kept: timedelta,
    ) -> None:
        self._database = database
        self._teller = teller
        self._log = log
        self._interval = interval
        self._invites_kept = invites_kept
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Has the next round begin now."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled. Nothing that is away ends it."""
        while True:
            self._woken.clear()
            try:
                more = await self.once()
            except SampanError as error:
                more = False
                self._log.warning("sweep.postponed", reason=error.reason)
            if not more:
                await rest(self._woken, self._interval)

    async def once(self) -> bool:
        """One round; whether more is to be done. Raises Unavailable without the database or messaging."""
        async with self._database.transaction() as connection:
            found = await errands.due(connection, _ROUND)
            gone = await repository_invites.purge_invites(connection, self._invites_kept, _PURGE_LIMIT)
        failed = 0
        for errand in found:
            failed += not await self._finished(errand)
        return gone == _PURGE_LIMIT or (len(found) >= _ROUND and not failed)

    async def _finished(self, errand: Errand) -> bool:
        try:
            await self._teller.tell(errand)
        except (Unavailable, DeadlineExceeded):
            raise
        except SampanError as error:
            self._log.warning("errand.refused", errand=errand.table.name, reason=error.reason)
            return False
        return True


def channel_of(row: Row[Any]) -> Channel:
    """A channel of its row."""
    return Channel(
        id=row.id,
        workspace_id=row.workspace_id,
        name=row.name,
        description=row.description,
        is_private=row.is_private,
        created_by=row.created_by,
        created_at=row.created_at,
    )
