"""Use cases of looking back: what moved, its audit trail, statements."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database
from services.mesh.paging import DEFAULT_LIMIT, Page, PageTokens
from services.payment import repository, repository_reading
from services.payment.domain import AuditEntry, Direction, Kind, Transaction
from services.payment.errors import StatementTooLong, TransactionNotFound, WalletNotFound
from services.payment.notes import Notes

# Above every number of a posting.
_END = 2**63 - 1
_HEAD = (
    "created_at",
    "transaction_id",
    "kind",
    "counterparty_id",
    "amount",
    "currency",
    "balance_after",
    "description",
)
# What makes a spreadsheet take a text for a formula.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which transactions: of one wallet or all, of one kind or all, from a moment on and before another."""

    wallet_id: UUID | None = None
    kind: str = ""
    since: datetime | None = None
    until: datetime | None = None


class ReadingService:
    """Looks into the ledger for those whose money it is. A statement has at most `statement_lines`."""

    def __init__(self, database: Database, notes: Notes, page_key: bytes, *, statement_lines: int) -> None:
        self._database = database
        self._notes = notes
        self._page_key = page_key
        self._statement_lines = statement_lines

    async def list(self, person: UUID, which: Filter, limit: int, page_token: str) -> Page[Transaction]:
        """What moved in a person's wallets, newest first. Raises WalletNotFound or PageTokenInvalid."""
        tokens = PageTokens(self._page_key, f"transactions:{person}:{which}")
        position = _position(tokens.read(page_token))
        limit = limit or DEFAULT_LIMIT
        async with self._database.reading() as connection:
            ranges = await self._ranges(connection, person, which)
            for wallet_id, before in position.items():
                first, last = ranges.get(wallet_id, (0, 0))
                ranges[wallet_id] = (first, min(before, last))
            rows = await repository_reading.page(connection, ranges, which.kind, limit + 1)
        shown = rows[:limit]
        # At once, so that their notes share a look-up of keys.
        items = await asyncio.gather(*(self._shown(row) for row in shown))
        if len(rows) <= limit:
            return Page(items, "")
        # The list goes on in each wallet below the last one that was shown of it.
        for row in shown:
            position[row.account_id] = min(row.seq, position.get(row.account_id, _END))
        return Page(items, tokens.make(*(f"{key}={before}" for key, before in position.items())))

    async def get(self, person: UUID, transaction_id: UUID) -> Transaction:
        """A transaction with its audit trail. Raises TransactionNotFound."""
        async with self._database.reading() as connection:
            return await self.get_within(connection, person, transaction_id)

    async def get_within(
        self, connection: AsyncConnection, person: UUID, transaction_id: UUID
    ) -> Transaction:
        """As `get`, in the caller's transaction."""
        row = await repository_reading.one(connection, person, transaction_id)
        if row is None:
            raise TransactionNotFound
        trail = await repository_reading.audit(connection, transaction_id, row.refers_to)
        refunded = sum(one.amount for one in trail if one.event == "refunded")
        return await self._shown(row, refunded, tuple(_entry(one) for one in trail))

    async def statement(
        self, person: UUID, wallet_id: UUID, since: datetime | None, until: datetime | None
    ) -> bytes:
        """CSV of what moved in a wallet. Raises WalletNotFound or StatementTooLong."""
        async with self._database.reading() as connection:
            ranges = await self._ranges(connection, person, Filter(wallet_id, "", since, until))
            first, before = ranges[wallet_id]
            most = self._statement_lines + 1
            rows = await repository_reading.statement(connection, wallet_id, first, before, most)
        if len(rows) > self._statement_lines:
            raise StatementTooLong
        return _csv(await asyncio.gather(*(self._line(row) for row in rows)))

    async def _ranges(
        self, connection: AsyncConnection, person: UUID, which: Filter
    ) -> dict[UUID, tuple[int, int]]:
        """From which number of each wallet, and before which."""
        wallets = [row.id for row in await repository.wallets_of(connection, person)]
        if which.wallet_id is not None:
            if which.wallet_id not in wallets:
                raise WalletNotFound
            wallets = [which.wallet_id]
        found = {}
        for wallet in wallets:
            first, before = 1, _END
            if which.since is not None:
                first = await repository_reading.seq_at(connection, wallet, which.since)
            if which.until is not None:
                before = await repository_reading.seq_at(connection, wallet, which.until)
            found[wallet] = (first, before)
        return found

    async def _shown(
        self, row: Row[Any], refunded: int = 0, audit: tuple[AuditEntry, ...] = ()
    ) -> Transaction:
        return Transaction(
            id=row.id,
            kind=Kind(row.kind),
            wallet_id=row.account_id,
            direction=Direction.OUT if row.signed < 0 else Direction.IN,
            sender=row.sender,
            recipient=row.recipient,
            amount=row.amount,
            currency=row.currency,
            fee=row.fee,
            balance_after=row.balance_after,
            created_at=row.created_at,
            description=await self._notes.open(row.person_id, row.id, row.sealed),
            refers_to=row.refers_to,
            refunded=refunded,
            audit=audit,
        )

    async def _line(self, row: Row[Any]) -> tuple[object, ...]:
        other = row.recipient if row.signed < 0 else row.sender
        note = await self._notes.open(row.person_id, row.id, row.sealed)
        return (
            row.created_at.isoformat(),
            row.transaction_id,
            row.kind,
            other or "",
            row.signed,
            row.currency,
            row.own_balance_after,
            f"'{note}" if note.startswith(_FORMULAS) else note,
        )


def _csv(lines: Sequence[tuple[object, ...]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_HEAD)
    writer.writerows(lines)
    return text.getvalue().encode()


def _position(read: tuple[str, ...] | None) -> dict[UUID, int]:
    """Below which number each wallet goes on."""
    parts = (one.split("=") for one in read or ())
    return {UUID(wallet): int(before) for wallet, before in parts}


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(row.event, row.actor, row.amount, row.transaction_id, row.created_at)
