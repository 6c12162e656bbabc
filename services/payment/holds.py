"""Use cases of holds: money that is reserved, then captured, voided, or let go of when its time is over."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from services.mesh.database import Database
from services.mesh.errors import OutcomeUnknown, PermissionDenied, Unavailable
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.paging import DEFAULT_LIMIT, Page, PageTokens
from services.payment import repository_holds
from services.payment.domain import Draft, Hold, HoldStatus, Kind, Payment, Wallet
from services.payment.errors import (
    AccountSuspended,
    CaptureExceeded,
    CurrencyMismatch,
    DailyLimitExceeded,
    HoldClosed,
    HoldExpired,
    HoldNotFound,
    InsufficientFunds,
    RecipientNotFound,
    SelfTransfer,
    WalletNotFound,
)
from services.payment.ledger import Ledger
from services.payment.service import WalletService


class HoldService:
    """Holds. `life` is how long one lasts when nobody says otherwise."""

    def __init__(
        self,
        database: Database,
        idempotency: Idempotency,
        wallets: WalletService,
        ledger: Ledger,
        page_key: bytes,
        *,
        life: timedelta,
    ) -> None:
        self._database = database
        self._idempotency = idempotency
        self._wallets = wallets
        self._ledger = ledger
        self._page_key = page_key
        self._life = life

    async def create(self, wanted: Payment, life: timedelta, key: Key | None = None) -> Hold:
        """Reserves money. Raises what a payment of it would."""
        async with self._database.transaction("create_hold") as connection:
            known = await self._idempotency.claim(connection, key)
            hold_id = UUID(bytes=known) if known else uuid7()
            if known is None:
                payee = await self._checked(connection, wanted)
                await repository_holds.insert_hold(
                    connection,
                    hold_id,
                    wanted.wallet_id,
                    payee,
                    wanted.amount,
                    wanted.currency,
                    str(wanted.sender),
                    life or self._life,
                )
                actor = str(wanted.sender)
                await repository_holds.add_trail(connection, hold_id, "hold_created", actor, wanted.amount)
                await self._idempotency.keep(connection, key, hold_id.bytes)
            return await _hold(connection, wanted.sender, hold_id)

    async def get(self, person: UUID, hold_id: UUID) -> Hold:
        """A hold that a person pays or is paid by. Raises HoldNotFound."""
        async with self._database.reading() as connection:
            return await _hold(connection, person, hold_id)

    async def list(self, person: UUID, status: str, limit: int, page_token: str) -> Page[Hold]:
        """Holds of a person, newest first. Raises PageTokenInvalid."""
        tokens = PageTokens(self._page_key, f"holds:{person}:{status}")
        position = tokens.read(page_token)
        before = UUID(position[0]) if position else None
        limit = limit or DEFAULT_LIMIT
        async with self._database.reading() as connection:
            rows = await repository_holds.holds_of(connection, person, status, before, limit + 1)
        return tokens.page([_shown(row) for row in rows], limit, lambda one: (str(one.id),))

    async def capture(
        self, person: UUID, hold_id: UUID, amount: int, key: Key | None = None, *, final: bool
    ) -> tuple[Hold, UUID]:
        """Pays what is held, or a part; returns the hold and the transaction.

        Raises HoldNotFound, HoldClosed, HoldExpired, CaptureExceeded, and what posting raises.
        """
        async with self._database.transaction("capture_hold") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is not None:
                return await _hold(connection, person, hold_id), UUID(bytes=known)
            await repository_holds.lock_hold(connection, hold_id)
            hold = await _hold(connection, person, hold_id)
            await _must_be_open(connection, hold)
            amount = amount or hold.remaining
            if amount > hold.remaining:
                raise CaptureExceeded
            draft = Draft(
                id=uuid7(),
                kind=Kind.CAPTURE,
                caller=str(person),
                debit=hold.account_id,
                credit=hold.payee_account,
                amount=amount,
                currency=hold.currency,
                refers_to=hold_id,
            )
            posted = await self._ledger.post_within(connection, draft)
            await repository_holds.add_trail(
                connection, hold_id, "hold_captured", str(person), amount, posted.id
            )
            if final and amount < hold.remaining:
                await repository_holds.close_hold(connection, hold_id, HoldStatus.CAPTURED)
            await self._idempotency.keep(connection, key, posted.id.bytes)
            return await _hold(connection, person, hold_id), posted.id

    async def void(self, person: UUID, hold_id: UUID, key: Key | None = None) -> Hold:
        """Lets go of what is held yet. Raises HoldNotFound, PermissionDenied for who pays, HoldClosed."""
        async with self._database.transaction("void_hold") as connection:
            if await self._idempotency.claim(connection, key) is None:
                await repository_holds.lock_hold(connection, hold_id)
                hold = await _hold(connection, person, hold_id)
                if person != hold.recipient:
                    raise PermissionDenied
                if hold.status is not HoldStatus.VOIDED:
                    await _must_be_open(connection, hold)
                    await repository_holds.close_hold(connection, hold_id, HoldStatus.VOIDED)
                    actor, rest = str(person), hold.remaining
                    await repository_holds.add_trail(connection, hold_id, "hold_voided", actor, rest)
            return await _hold(connection, person, hold_id)

    async def expire_one(self) -> bool:
        """Lets go of one hold whose time is over; False when there is none. Raises Unavailable."""
        async with self._database.transaction("expire_hold") as connection:
            row = await repository_holds.lock_expired_hold(connection)
            if row is None:
                return False
            await repository_holds.close_hold(connection, row.id, HoldStatus.EXPIRED)
            rest = row.amount - row.captured
            await repository_holds.add_trail(connection, row.id, "hold_expired", "payment", rest)
            return True

    async def _checked(self, connection: AsyncConnection, wanted: Payment) -> UUID:
        """The wallet that shall be paid. Both are locked, and what is wanted was possible then."""
        payee = await repository_holds.wallet_for(connection, wanted.recipient, wanted.currency)
        ids = {one for one in (wanted.wallet_id, payee) if one is not None}
        found = await repository_holds.lock_wallets(connection, ids)
        wallets = {one: self._wallets.shown(row) for one, row in found.items()}
        payer = wallets.get(wanted.wallet_id)
        if payer is None or payer.owner != wanted.sender:
            raise WalletNotFound
        _must_spend(payer, wanted)
        if payee is None or wallets[payee].suspended:
            raise RecipientNotFound
        if payer.available < wanted.amount:
            raise InsufficientFunds
        if payer.left_today < wanted.amount:
            raise DailyLimitExceeded
        return payee


class HoldSweeper:
    """Has holds expire, as background work, looking every `interval` seconds."""

    def __init__(self, holds: HoldService, log: FilteringBoundLogger, *, interval: float) -> None:
        self._holds = holds
        self._log = log
        self._interval = interval

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                while await self._holds.expire_one():
                    pass
            except (Unavailable, OutcomeUnknown):
                self._log.warning("holds.sweep_postponed")
            await asyncio.sleep(self._interval)


def _must_spend(payer: Wallet, wanted: Payment) -> None:
    if payer.currency != wanted.currency:
        raise CurrencyMismatch
    if wanted.recipient == wanted.sender:
        raise SelfTransfer
    if payer.suspended:
        raise AccountSuspended


async def _must_be_open(connection: AsyncConnection, hold: Hold) -> None:
    if hold.status is HoldStatus.EXPIRED:
        raise HoldExpired
    if hold.status is not HoldStatus.PENDING:
        raise HoldClosed
    # Also when the sweeper has not come by yet.
    if hold.expires_at <= await repository_holds.now(connection):
        raise HoldExpired


async def _hold(connection: AsyncConnection, person: UUID, hold_id: UUID) -> Hold:
    row = await repository_holds.hold(connection, hold_id)
    hold = None if row is None else _shown(row)
    if hold is None or not hold.concerns(person):
        raise HoldNotFound
    return hold


def _shown(row: Row[Any]) -> Hold:
    return Hold(
        id=row.id,
        account_id=row.account_id,
        payee_account=row.payee_account,
        sender=row.sender,
        recipient=row.recipient,
        amount=row.amount,
        captured=row.captured,
        currency=row.currency,
        status=HoldStatus(row.status),
        expires_at=row.expires_at,
        created_at=row.created_at,
        closed_at=row.closed_at,
    )
