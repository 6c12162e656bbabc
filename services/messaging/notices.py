"""Use cases of notices: what services write into the direct dialog of two people. Transactions open here."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from services.mesh.database import Database
from services.mesh.errors import SampanError
from services.mesh.group_read import GroupRead
from services.mesh.ids import uuid7
from services.messaging import dialogs, encoding, repository
from services.messaging.domain import PAYMENT, Draft, Kind, MessageId, Paid, direct_key
from services.messaging.messages import MessageService
from services.messaging.posting import Posted
from services.messaging.publishing import Publisher

# Direct dialogs that are remembered: some 200 bytes each.
_REMEMBERED = 16_384

Outcome = Posted | BaseException


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that has happened between two people. `attributes` is a JSON object."""

    sender_id: UUID
    recipient_id: UUID
    type: str
    text: str = field(repr=False)
    attributes: str = field(repr=False)
    client_message_id: str
    request_hash: bytes

    def draft(self, dialog_id: UUID) -> Draft:
        """Its message."""
        return Draft(
            dialog_id=dialog_id,
            sender_id=self.sender_id,
            client_message_id=self.client_message_id,
            text=self.text,
            request_hash=self.request_hash,
            type=self.type,
            attributes=self.attributes,
        )


class NoticeService:
    """Messages that services write."""

    def __init__(self, database: Database, publisher: Publisher, messages: MessageService) -> None:
        self._database = database
        self._publisher = publisher
        self._messages = messages
        self._reading = GroupRead(self._find)
        # Whose a direct dialog is never changes.
        self._known: dict[bytes, UUID] = {}

    async def post(self, notice: Notice) -> MessageId:
        """Writes a notice into the direct dialog of two people, which is made when there is none.

        Raises ClientMessageIdReused, Overloaded or OutcomeUnknown.
        """
        dialog_id = await self._direct(notice.sender_id, notice.recipient_id)
        posted = await self._messages.send(notice.draft(dialog_id))
        return MessageId(dialog_id, posted.seq)

    async def tell(self, paid: Sequence[Paid]) -> None:
        """Writes of each payment into the direct dialog of who paid and who was paid, once.

        They are one crowd, without a task each. All are tried; raises what one of them failed with.
        """
        keys = [direct_key(one.sender_id, one.recipient_id) for one in paid]
        found = await self._dialogs(dict(zip(keys, paid, strict=True)))
        outcomes = await asyncio.gather(
            *(self._begin(found[key], one) for key, one in zip(keys, paid, strict=True))
        )
        failed = [one for one in outcomes if isinstance(one, BaseException)]
        if failed:
            for key in keys:
                self._known.pop(key, None)
            raise failed[0]

    async def _dialogs(self, paid: Mapping[bytes, Paid]) -> Mapping[bytes, UUID | BaseException]:
        """The direct dialogs of payments' people, by their keys, or why one could not be found or made."""
        found: dict[bytes, UUID | BaseException] = {}
        new = []
        for key in paid:
            known = self._known.get(key)
            if known is None:
                new.append(key)
            else:
                found[key] = known
        if new:
            made = await asyncio.gather(
                *(self._direct(paid[key].sender_id, paid[key].recipient_id) for key in new),
                return_exceptions=True,
            )
            found.update(zip(new, made, strict=True))
        return found

    def _begin(self, dialog_id: UUID | BaseException, paid: Paid) -> asyncio.Future[Outcome]:
        """Where the outcome of a payment's message will be, errors as values."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if isinstance(dialog_id, BaseException):
            outcome.set_result(dialog_id)
            return outcome
        try:
            self._messages.begin(_draft(dialog_id, paid), math.inf, outcome)
        except SampanError as error:
            outcome.set_result(error)
        return outcome

    async def _direct(self, one: UUID, other: UUID) -> UUID:
        """The dialog of two people, which is made when there is none."""
        key = direct_key(one, other)
        found = self._known.get(key) or await self._reading.get(key) or await self._make(one, other)
        if len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[key] = found
        return found

    async def _make(self, one: UUID, other: UUID) -> UUID:
        """Their dialog, which was not there just now."""
        new = dialogs.NewDialog(Kind.DIRECT, one, (other,))
        async with self._database.transaction("post_notice") as connection:
            dialog_id, live = await dialogs.found_direct(connection, new, uuid7())
        if live:
            self._publisher.joined(dialog_id, new.people)
            self._publisher.events(live)
        return dialog_id

    async def _find(self, keys: Sequence[bytes]) -> Mapping[bytes, UUID]:
        async with self._database.reading() as connection:
            return await repository.direct_dialogs(connection, keys)


def _draft(dialog_id: UUID, paid: Paid) -> Draft:
    """The message of a payment. Its id has a character that no client's has: nobody can take it first."""
    return Draft(
        dialog_id=dialog_id,
        sender_id=paid.sender_id,
        client_message_id=f"{PAYMENT}/{paid.transaction_id}",
        text=paid.text,
        # A transaction does not change, so what is known by its id is the same.
        request_hash=paid.transaction_id.bytes,
        type=PAYMENT,
        attributes=paid.attributes,
        content=encoding.payment(paid),
    )
