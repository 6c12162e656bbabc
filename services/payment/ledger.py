"""Posting transfers: alone, in batches that share a commit, or inside a transaction of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh import faults
from services.mesh.database import constraint
from services.mesh.errors import RequestIdReused, SampanError
from services.mesh.fast_database import FastDatabase
from services.mesh.group_commit import GroupCommit
from services.payment import repository_posting
from services.payment.domain import Draft, Posted
from services.payment.errors import (
    AccountSuspended,
    CurrencyMismatch,
    DailyLimitExceeded,
    InsufficientFunds,
    RecipientNotFound,
    SelfTransfer,
    WalletNotFound,
)
from services.payment.repository_posting import Run, Status

_REFUSED: dict[int, type[SampanError]] = {
    Status.REUSED: RequestIdReused,
    Status.NO_WALLET: WalletNotFound,
    Status.OTHER_CURRENCY: CurrencyMismatch,
    Status.TO_ITSELF: SelfTransfer,
    Status.SUSPENDED: AccountSuspended,
    Status.NO_RECIPIENT: RecipientNotFound,
    Status.OVER_LIMIT: DailyLimitExceeded,
    Status.NOT_ENOUGH: InsufficientFunds,
}


class _KeyTakenMeanwhile(Exception):
    """Somebody else posted under a key of the batch, with another account, so that no lock kept them apart.

    As a serialization failure it has the batch posted again, which then finds the key.
    """

    sqlstate = "40001"


class LedgerStore:
    """Where group commit takes drafts. `wake` says that there are events to publish."""

    def __init__(
        self, database: FastDatabase, limits: Mapping[str, Sequence[int]], wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._limits = json.dumps(dict(limits))
        self._wake = wake

    async def post(self, batch: Sequence[Draft]) -> Sequence[Posted | SampanError]:
        """Posts a batch. What comes twice in it under one key is looked at once the first was posted."""
        first: dict[UUID, int] = {}
        for place, draft in enumerate(batch):
            first.setdefault(draft.key or draft.id, place)
        if len(first) == len(batch):
            return await self._post(batch)
        places = set(first.values())
        firsts = [draft for place, draft in enumerate(batch) if place in places]
        others = [draft for place, draft in enumerate(batch) if place not in places]
        told, more = iter(await self._post(firsts)), iter(await self.post(others))
        return [next(told if place in places else more) for place in range(len(batch))]

    async def find(self, entries: Sequence[Draft]) -> Sequence[Posted | None]:
        """What was posted under the ids of drafts."""
        rows = await repository_posting.find(self._database, entries)
        return [_posted(row) if row["transaction_id"] else None for row in rows]

    async def within(self, run: Run, batch: Sequence[Draft]) -> Sequence[Posted | SampanError]:
        """Posts a batch by a connection that somebody else commits."""
        found = await repository_posting.post(run, batch, self._limits)
        return [one if isinstance(one, Posted) else _REFUSED[one]() for one in found]

    async def _post(self, batch: Sequence[Draft]) -> Sequence[Posted | SampanError]:
        await faults.point("payment.post.before_commit")
        try:
            answers = await self.within(self._database.call, batch)
        except asyncpg.UniqueViolationError as error:
            if constraint(error) == "requests_pkey":
                raise _KeyTakenMeanwhile from error
            raise
        await faults.point("payment.post.after_commit")
        self._wake()
        return answers


class Ledger:
    """Posts transfers for use cases."""

    def __init__(self, store: LedgerStore, group: GroupCommit[Draft, Posted]) -> None:
        self._store = store
        self._group = group

    def post(self, draft: Draft) -> Coroutine[Any, Any, Posted]:
        """Posts a transfer, in a transaction that it shares with others.

        Raises WalletNotFound, CurrencyMismatch, SelfTransfer, AccountSuspended, RecipientNotFound,
        DailyLimitExceeded, InsufficientFunds, RequestIdReused; Overloaded, Unavailable, OutcomeUnknown.
        """
        return self._group.submit(draft, lane=draft.debit)

    async def post_within(self, connection: AsyncConnection, draft: Draft) -> Posted:
        """Posts a transfer in the caller's transaction, which must have begun. Raises as `post`."""
        raw: Any = (await connection.get_raw_connection()).driver_connection
        [answer] = await self._store.within(raw.fetch, [draft])
        if isinstance(answer, SampanError):
            raise answer
        return answer


def _posted(row: Record) -> Posted:
    return Posted(row["transaction_id"], row["balance_after"], row["fee"], row["stamp"])
