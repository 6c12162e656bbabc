"""Finishes top-ups of which nothing is heard: asks the bank, then credits, waits on, or lets them expire."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from services.mesh import faults
from services.mesh.clock import Clock, moment
from services.mesh.database import Database
from services.mesh.errors import SampanError, Unavailable
from services.payment import repository_topups as repository
from services.payment.domain_topups import By, TopUp
from services.payment.providers.provider import Notice, Provider
from services.payment.receiving import Receiver

# What one round takes on, at most.
_ROUND = 50


class Sweeper:
    """One for each process; several share the work. A bank has `patience` seconds to say what it has.

    A round begins when something is due, at least `interval` and at most `idle` seconds after the last one:
    others may have made something due meanwhile.

    Who looks at a top-up has it for `lease` seconds; a crash leaves it to whoever looks after that. No
    transaction is open while a bank is asked.
    """

    def __init__(
        self,
        database: Database,
        receiver: Receiver,
        providers: Mapping[str, Provider],
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        interval: float,
        idle: float,
        lease: float,
        patience: float,
    ) -> None:
        self._database = database
        self._receiver = receiver
        self._providers = providers
        self._clock = clock
        self._log = log
        self._interval = interval
        self._idle = idle
        self._lease = lease
        self._patience = patience

    async def run(self) -> None:
        """Until cancelled. Nothing that is away ends it."""
        while True:
            wait = self._idle
            try:
                while await self.once() == _ROUND:
                    pass
                wait = await self._rest()
            except SampanError as error:
                self._log.warning("top_ups.sweep_postponed", reason=error.reason)
            await asyncio.sleep(wait)

    async def once(self) -> int:
        """One round; how many it looked at. Raises Unavailable without the database."""
        now = moment(self._clock())
        async with self._database.transaction("lease_top_ups") as connection:
            found = await repository.due(connection, now, now + timedelta(seconds=self._lease), _ROUND)
        for top_up in found:
            try:
                notices = await self._asked(top_up)
                await faults.point("payment.sweep.asked")
                await self._finish(top_up, notices)
            except SampanError as error:
                # Others are not made to wait for it: its lease ends, and it is looked at again.
                self._log.warning("top_up.unfinished", top_up=str(top_up.id), reason=error.reason)
        return len(found)

    async def _rest(self) -> float:
        """Seconds until something is due, within reason."""
        async with self._database.reading() as connection:
            due_at = await repository.next_look(connection)
        due_in = due_at.timestamp() - self._clock() if due_at else self._idle
        return max(self._interval, min(due_in, self._idle))

    async def _asked(self, top_up: TopUp) -> list[Notice]:
        """What the bank has. Raises Unavailable when it does not say, or is none of ours any more."""
        provider = self._providers.get(top_up.provider)
        if provider is None:
            raise Unavailable
        try:
            async with asyncio.timeout(self._patience):
                return await provider.ask(top_up.reference)
        except TimeoutError:
            raise Unavailable from None

    async def _finish(self, top_up: TopUp, notices: list[Notice]) -> None:
        for notice in notices:
            await self._receiver.receive(top_up.provider, notice, By.SWEEPER)
        if not notices:
            await self._receiver.nothing_came(top_up.id)
