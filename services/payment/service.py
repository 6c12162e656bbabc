"""Use cases of wallets and of what people may do with them. Transactions open here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.personal import PersonKeys
from services.payment import repository
from services.payment.domain import TIME_ZONES, Wallet
from services.payment.errors import WalletExists, WalletNotFound


class WalletService:
    """Wallets. `daily_limits` says what may be sent in a day, by currency and tier."""

    def __init__(
        self,
        database: Database,
        idempotency: Idempotency,
        person_keys: PersonKeys,
        daily_limits: dict[str, list[int]],
    ) -> None:
        self._database = database
        self._idempotency = idempotency
        self._person_keys = person_keys
        self._daily_limits = daily_limits

    async def create(
        self, owner: UUID, currency: str, answer: Callable[[Wallet], bytes], key: Key | None = None
    ) -> bytes:
        """Makes a person's wallet of a currency. Raises WalletExists.

        Returns what `answer` makes of it, which is kept for repeated requests.
        """
        async with self._database.transaction("create_wallet") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is not None:
                return known
            wallet_id, zone = uuid7(), TIME_ZONES[currency]
            standing = await repository.lock_standing(connection, owner)
            tier, suspended = (standing.kyc_tier, standing.suspended) if standing else (0, False)
            if not await repository.insert_wallet(
                connection, wallet_id, owner, currency, zone, tier, suspended=suspended
            ):
                raise WalletExists
            await repository.keep_person_key(connection, owner, self._person_keys.new(owner).wrapped)
            answered = answer(self.shown(await repository.wallet_of(connection, owner, wallet_id)))
            await self._idempotency.keep(connection, key, answered)
            return answered

    async def list(self, owner: UUID) -> list[Wallet]:
        """A person's wallets, in the order of their making."""
        async with self._database.reading() as connection:
            return [self.shown(row) for row in await repository.wallets_of(connection, owner)]

    async def get(self, owner: UUID, wallet_id: UUID) -> Wallet:
        """One of a person's wallets. Raises WalletNotFound."""
        async with self._database.reading() as connection:
            return self.shown(await repository.wallet_of(connection, owner, wallet_id))

    async def set_standing(
        self, user_id: UUID, kyc_tier: int, version: int, *, suspended: bool, key: Key | None = None
    ) -> None:
        """Takes what identity says of a person, unless something newer is known."""
        async with self._database.transaction("set_standing") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            known = await repository.lock_standing(connection, user_id)
            if known is None or known.version < version:
                await repository.set_standing(connection, user_id, kyc_tier, version, suspended=suspended)

    def shown(self, row: Row[Any] | None) -> Wallet:
        """A wallet of its row. Raises WalletNotFound."""
        if row is None:
            raise WalletNotFound
        return Wallet(
            id=row.id,
            owner=row.owner,
            currency=row.currency,
            balance=row.balance,
            held=row.held,
            kyc_tier=row.kyc_tier,
            suspended=row.suspended,
            time_zone=row.time_zone,
            spent_today=row.spent_today if row.is_today else 0,
            daily_limit=self._daily_limits[row.currency][row.kyc_tier],
            created_at=row.created_at,
        )
