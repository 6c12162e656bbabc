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
    """One for each process; several share the work. A round every `interval` seconds; a bank has `patience`.

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
        lease: float,
        patience: float,
    ) -> None:
        self._database = database
        self._receiver = receiver
        self._providers = providers
        self._clock = clock
        self._log = log
        self._interval = interval
        self._lease = lease
        self._patience = patience

    async def run(self) -> None:
        """Until cancelled. Nothing that is away ends it."""
        while True:
            try:
                while await self.once() == _ROUND:
                    pass
            except SampanError as error:
                self._log.warning("top_ups.sweep_postponed", reason=error.reason)
            await asyncio.sleep(self._interval)

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
