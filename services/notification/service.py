"""Use cases of notification: take an order, show what was taken, replay. Transactions open here."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database, after_commit
from services.mesh.errors import NotFound, RequestIdReused, Unavailable
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.vault import SealBroken
from services.notification import repository
from services.notification.domain import (
    ADDRESS_RULES,
    Channel,
    Letter,
    Order,
    Status,
    compose,
    expires_after,
    is_address,
    unfit_parameters,
)
from services.notification.errors import ParameterInvalid, RecipientInvalid
from services.notification.letters import Letters
from services.notification.repository import NewDelivery

# Dead letters that one call replays, at most.
REPLAY_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as the operator sees it. `letter` only if it lies in the outbox."""

    id: UUID
    channel: Channel
    template: str
    status: Status
    attempts: int
    failure: str
    created_at: datetime
    to: str = field(repr=False)
    letter: Letter | None = field(repr=False)


class NotificationService:
    """Deliveries. `by_provider` names the channels that have one; the others end in the outbox.

    `wake` tells the worker of this process that something is due.
    """

    def __init__(
        self,
        database: Database,
        letters: Letters,
        idempotency: Idempotency,
        *,
        by_provider: Set[Channel],
        max_attempts: int,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._letters = letters
        self._idempotency = idempotency
        self._by_provider = by_provider
        self._max_attempts = max_attempts
        self._wake = wake

    async def deliver(self, caller: str, request_id: UUID, order: Order) -> UUID:
        """Takes an order; returns the delivery's id, the same for the same request_id.

        Raises RecipientInvalid, ParameterInvalid or RequestIdReused.
        """
        async with self._database.transaction("deliver") as connection:
            return await self.order(connection, caller, request_id, order)

    async def order(self, connection: AsyncConnection, caller: str, request_id: UUID, order: Order) -> UUID:
        """Takes an order in the caller's transaction; otherwise as `deliver`."""
        _check(order)
        new = self._new(caller, request_id, order)
        if await repository.insert_delivery(connection, new):
            if new.status is Status.PENDING:
                after_commit(connection, self._wake)
            return new.id
        known = await repository.by_request(connection, caller, request_id)
        if known is None:
            # It was deleted by age between the two statements: the next try will insert.
            raise Unavailable
        delivery_id, input_hash = known
        if not hmac.compare_digest(input_hash, new.input_hash):
            raise RequestIdReused
        return delivery_id

    async def newest(self, *, to: str, status: Status | None, limit: int) -> list[Delivery]:
        """What was taken, newest first; `to` and `status` narrow it."""
        recipient = self._letters.recipient(to) if to else None
        async with self._database.transaction() as connection:
            rows = await repository.newest(connection, recipient=recipient, status=status, limit=limit)
        found = []
        for row in rows:
            letter = self._open(row.id, row.sealed)
            found.append(
                Delivery(
                    id=row.id,
                    channel=Channel(row.channel),
                    template=row.template,
                    status=Status(row.status),
                    attempts=row.attempts,
                    failure=row.failure,
                    created_at=row.created_at,
                    to=letter.to if letter else to,
                    # What a provider will still send may hold a code that opens somebody's account.
                    letter=letter if row.status == Status.SENT else None,
                )
            )
        return found

    async def replay(self, delivery_id: UUID | None, key: Key | None = None) -> int:
        """Gives one dead letter, or all, another round of tries. Raises NotFound for one that has none.

        A repeated request replays nothing more and is answered with the first count.
        """
        async with self._database.transaction("replay") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is not None:
                return int.from_bytes(known, "big")
            count = await repository.replay(
                connection, only=delivery_id, attempts=self._max_attempts, limit=REPLAY_LIMIT
            )
            if delivery_id is not None and count == 0:
                raise NotFound("there is no such dead letter that may still be sent")
            await self._idempotency.keep(connection, key, count.to_bytes(4, "big"))
            if count:
                after_commit(connection, self._wake)
        return count

    def _open(self, delivery_id: UUID, sealed: bytes | None) -> Letter | None:
        try:
            return None if sealed is None else self._letters.open(delivery_id, sealed)
        except SealBroken:
            # One that nobody can read must not hide the others.
            return None

    def _new(self, caller: str, request_id: UUID, order: Order) -> NewDelivery:
        delivery_id = uuid7()
        return NewDelivery(
            id=delivery_id,
            caller=caller,
            request_id=request_id,
            input_hash=self._letters.fingerprint(order),
            channel=order.channel,
            template=order.template,
            recipient=self._letters.recipient(order.to),
            recipient_key_id=self._letters.key_id,
            sealed=self._letters.seal(delivery_id, compose(order)),
            status=Status.PENDING if order.channel in self._by_provider else Status.SENT,
            attempts_allowed=self._max_attempts,
            expires_after=expires_after(order),
        )


def _check(order: Order) -> None:
    if not is_address(order.channel, order.to):
        raise RecipientInvalid(*ADDRESS_RULES[order.channel])
    unfit = unfit_parameters(order)
    if unfit:
        raise ParameterInvalid(unfit)
