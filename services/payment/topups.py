"""Use cases of top-ups for those who ask for money. Transactions open here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from services.mesh.clock import Clock, moment
from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.paging import DEFAULT_LIMIT, Page, PageTokens
from services.payment import repository_topups as repository
from services.payment.domain_topups import Status, TopUp
from services.payment.errors import (
    AccountSuspended,
    AmountTooLarge,
    CurrencyMismatch,
    MethodUnavailable,
    TooManyTopUps,
    TopUpNotFound,
    WalletNotFound,
)
from services.payment.providers.provider import Provider
from services.payment.qr import payload, reference
from services.payment.qr.rails import RAILS


class TopUpService:
    """Top-ups: one brings at most `most`, by currency, and can be paid for `seconds`.

    Nobody has more than `max_open` open. The first of the `providers` that takes a method gets it.
    """

    def __init__(
        self,
        database: Database,
        idempotency: Idempotency,
        providers: Mapping[str, Provider],
        page_key: bytes,
        clock: Clock,
        *,
        most: Mapping[str, int],
        seconds: float,
        grace: float,
        max_open: int,
    ) -> None:
        self._database = database
        self._idempotency = idempotency
        self._providers = providers
        self._page_key = page_key
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._grace = grace
        self._max_open = max_open

    async def create(
        self, user_id: UUID, wallet_id: UUID, amount: int, currency: str, method: str, key: Key | None = None
    ) -> TopUp:
        """Asks for money. A repeated request is answered with the top-up as it was made.

        Raises CurrencyMismatch, AmountTooLarge, WalletNotFound, AccountSuspended, TooManyTopUps or
        MethodUnavailable.
        """
        if RAILS[method].currency != currency:
            raise CurrencyMismatch
        async with self._database.transaction("create_top_up") as connection:
            known = await self._idempotency.claim(connection, key)
            top_up_id = UUID(bytes=known) if known else uuid7()
            if known is None:
                if amount > self._most[currency]:
                    raise AmountTooLarge
                wallet = await repository.wallet(connection, wallet_id)
                if wallet is None or wallet.owner != user_id:
                    raise WalletNotFound
                if wallet.currency != currency:
                    raise CurrencyMismatch
                if wallet.suspended:
                    raise AccountSuspended
                if await repository.count_open(connection, user_id) >= self._max_open:
                    raise TooManyTopUps
                made = self._made(top_up_id, user_id, wallet_id, amount, method)
                await repository.add(connection, made, made.expires_at + timedelta(seconds=self._grace))
                await self._idempotency.keep(connection, key, top_up_id.bytes)
            found = await repository.one(connection, top_up_id)
        if found is None:
            raise TopUpNotFound
        return found.as_made()

    async def get(self, user_id: UUID, top_up_id: UUID) -> TopUp:
        """One of somebody's own. Raises TopUpNotFound."""
        async with self._database.transaction() as connection:
            found = await repository.one(connection, top_up_id, user_id=user_id)
        if found is None:
            raise TopUpNotFound
        return found

    async def list(
        self, user_id: UUID, wallet_id: UUID | None, status: Status | None, limit: int, page_token: str
    ) -> Page[TopUp]:
        """Somebody's own, newest first. Raises PageTokenInvalid."""
        tokens = PageTokens(self._page_key, f"top_ups:{user_id}:{wallet_id}:{status}")
        position = tokens.read(page_token)
        limit = limit or DEFAULT_LIMIT
        async with self._database.reading() as connection:
            found = await repository.of_user(
                connection,
                user_id,
                wallet_id=wallet_id,
                status=status,
                before=UUID(position[0]) if position else None,
                limit=limit + 1,
            )
        return tokens.page(found, limit, lambda one: (str(one.id),))

    def _made(self, top_up_id: UUID, user_id: UUID, wallet_id: UUID, amount: int, method: str) -> TopUp:
        provider = next((one for one in self._providers.values() if method in one.payees), None)
        if provider is None:
            raise MethodUnavailable
        now = moment(self._clock())
        expires_at = now + timedelta(seconds=self._seconds)
        payee, known_as = provider.payees[method], reference.of_id(top_up_id)
        return TopUp(
            id=top_up_id,
            user_id=user_id,
            wallet_id=wallet_id,
            provider=provider.name,
            method=method,
            amount=amount,
            currency=RAILS[method].currency,
            status=Status.PENDING,
            reference=known_as,
            qr_payload=payload.make(method, payee, amount, known_as, expires_at),
            expires_at=expires_at,
            created_at=now,
        )
