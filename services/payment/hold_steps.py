"""What can be done with a hold, as steps of the caller's transaction, whoever it is done for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.ids import uuid7
from services.payment import repository_holds
from services.payment.domain import Draft, Hold, HoldStatus, Kind, Payment, Wallet
from services.payment.errors import (
    AccountSuspended,
    CaptureExceeded,
    CurrencyMismatch,
    DailyLimitExceeded,
    HoldClosed,
    HoldExpired,
    InsufficientFunds,
    RecipientNotFound,
    SelfTransfer,
    WalletNotFound,
)
from services.payment.ledger import Ledger
from services.payment.service import WalletService


class HoldSteps:
    """Make, capture, let go. `life` is how long a hold lasts when nobody says otherwise."""

    def __init__(self, wallets: WalletService, ledger: Ledger, *, life: timedelta) -> None:
        self._wallets = wallets
        self._ledger = ledger
        self._life = life

    async def make(
        self, connection: AsyncConnection, hold_id: UUID, wanted: Payment, life: timedelta, actor: str
    ) -> bool:
        """Reserves money; False when something has that id already. Raises what a payment of it would."""
        payee = await self._checked(connection, wanted)
        made = await repository_holds.insert_hold(
            connection,
            hold_id,
            wanted.wallet_id,
            payee,
            wanted.amount,
            wanted.currency,
            actor,
            life or self._life,
        )
        if made:
            await repository_holds.add_trail(connection, hold_id, "hold_created", actor, wanted.amount)
        return made

    async def capture(
        self, connection: AsyncConnection, hold: Hold, amount: int, actor: str, *, final: bool
    ) -> UUID:
        """Pays a part of a hold that is locked, or all that is left for 0; returns the transaction.

        Raises HoldClosed, HoldExpired, CaptureExceeded, and what posting raises.
        """
        await _must_be_open(connection, hold)
        amount = amount or hold.remaining
        if amount > hold.remaining:
            raise CaptureExceeded
        draft = Draft(
            id=uuid7(),
            kind=Kind.CAPTURE,
            caller=actor,
            debit=hold.account_id,
            credit=hold.payee_account,
            amount=amount,
            currency=hold.currency,
            refers_to=hold.id,
        )
        posted = await self._ledger.post_within(connection, draft)
        await repository_holds.add_trail(connection, hold.id, "hold_captured", actor, amount, posted.id)
        if final and amount < hold.remaining:
            await repository_holds.close_hold(connection, hold.id, HoldStatus.CAPTURED)
        return posted.id

    async def void(self, connection: AsyncConnection, hold: Hold, actor: str) -> None:
        """Lets go of what a locked hold holds yet, once. Raises HoldClosed or HoldExpired."""
        if hold.status is HoldStatus.VOIDED:
            return
        await _must_be_open(connection, hold)
        await repository_holds.close_hold(connection, hold.id, HoldStatus.VOIDED)
        await repository_holds.add_trail(connection, hold.id, "hold_voided", actor, hold.remaining)

    async def _checked(self, connection: AsyncConnection, wanted: Payment) -> UUID:
        """The wallet that shall be paid. Both are locked, and what is wanted was possible then."""
        payee = await repository_holds.wallet_for(connection, wanted.recipient, wanted.currency)
        ids = {one for one in (wanted.wallet_id, payee) if one is not None}
        found = await repository_holds.lock_wallets(connection, ids)
        wallets = {one: self._wallets.shown(row) for one, row in found.items()}
        payer = _payer(wallets, wanted)
        if payee is None or wallets[payee].suspended:
            raise RecipientNotFound
        if payer.available < wanted.amount:
            raise InsufficientFunds
        if payer.left_today < wanted.amount:
            raise DailyLimitExceeded
        return payee


def shown(row: Row[Any]) -> Hold:
    """A hold of its row."""
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
        caller=row.caller,
        expires_at=row.expires_at,
        created_at=row.created_at,
        closed_at=row.closed_at,
    )


def _payer(wallets: Mapping[UUID, Wallet], wanted: Payment) -> Wallet:
    """The wallet that pays, if it may."""
    payer = wallets.get(wanted.wallet_id)
    if payer is None or payer.owner != wanted.sender:
        raise WalletNotFound
    if payer.currency != wanted.currency:
        raise CurrencyMismatch
    if wanted.recipient == wanted.sender:
        raise SelfTransfer
    if payer.suspended:
        raise AccountSuspended
    return payer


async def _must_be_open(connection: AsyncConnection, hold: Hold) -> None:
    if hold.status is HoldStatus.EXPIRED:
        raise HoldExpired
    if hold.status is not HoldStatus.PENDING:
        raise HoldClosed
    # Also when the sweeper has not come by yet.
    if hold.expires_at <= await repository_holds.now(connection):
        raise HoldExpired
