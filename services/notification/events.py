"""What notification consumes: a sign-in on a device that is new for a person is told to that person."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from sampan.identity.v1 import events_pb2
from services.mesh import consumer
from services.mesh.consumer import Effect
from services.mesh.inbox import Received
from services.notification.domain import Channel, Order
from services.notification.service import NotificationService

CONTEXT = "identity"
SESSION_CREATED = "sampan.identity.session.created"
# By whom deliveries are ordered that follow from events.
CALLER = "notification"
_TEMPLATE = "new_device"
_UNNAMED = "unknown device"


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a person can be reached, and what they signed in with."""

    channel: Channel
    to: str = field(repr=False)
    device: str = field(repr=False)


class Contacts(Protocol):
    """Who knows where people can be reached."""

    async def of_session(self, account_id: UUID, session_id: UUID) -> Contact | None:
        """None when there is no way to reach them, or no such session. Raises Unavailable."""
        ...


class Events:
    """Handlers by subject."""

    def __init__(self, service: NotificationService, contacts: Contacts) -> None:
        self._service = service
        self._contacts = contacts
        self.handlers = {SESSION_CREATED: self.session_created}

    async def session_created(self, event: Received) -> Effect:
        """Tells of a new device; nobody is told of the first sign-in of all."""
        said = events_pb2.SessionCreated.FromString(event.payload)
        if said.first_session or said.device_known:
            return consumer.nothing
        contact = await self._contacts.of_session(UUID(said.account_id), UUID(said.session_id))
        if contact is None:
            return consumer.nothing
        order = Order(
            channel=contact.channel,
            template=_TEMPLATE,
            language="",
            to=contact.to,
            parameters={"device": contact.device if re.search(r"\w", contact.device) else _UNNAMED},
        )

        async def tell(connection: AsyncConnection) -> None:
            # Even if the inbox forgot the event, the same order would be the same delivery.
            await self._service.order(connection, CALLER, uuid5(event.id, _TEMPLATE), order)

        return tell
