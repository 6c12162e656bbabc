"""Payments as payment tells of them on the bus, and messaging that hears it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from nats.js.errors import NotFoundError

from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.messaging.v1.dialog_pb2 import Dialog
from sampan.messaging.v1.message_pb2 import Message
from sampan.payment.v1 import events_pb2
from services.mesh.clock import moment, system_clock
from services.mesh.database import Database
from services.mesh.outbox import Event, Outbox
from services.mesh.settings import MeshSettings
from services.messaging.payment_events import TRANSFERS_SENT
from services.stack.pki import Pki
from tests.support.bus import ADMIN, NatsServer
from tests.support.chat import Recorder, Talker, Talkers, talkers
from tests.support.databases import Clone, messaging_app, payment_app
from tests.support.mesh import Minter, channel_as, serving
from tests.support.waiting import until

# Seconds in which a payment is told of.
WITHIN = 20
QUICK: Mapping[str, Any] = {
    "rate_limit_scale": 10_000,
    "relay_poll_seconds": 0.05,
    "event_ack_seconds": 1,
    "event_retry_first_seconds": 0.02,
    "event_retry_ceiling_seconds": 0.2,
}


@dataclass(frozen=True)
class Sent:
    """Money that somebody has sent. `event_id` is that of the event which says so."""

    sender: Talker
    recipient: Talker
    amount: int = 15_000
    currency: str = "THB"
    transaction_id: uuid.UUID = field(default_factory=uuid.uuid4)
    event_id: uuid.UUID = field(default_factory=uuid.uuid4)

    def event(self) -> Event:
        """As payment writes it."""
        told = events_pb2.TransferSent(
            transaction_id=str(self.transaction_id),
            sender_id=self.sender.id,
            recipient_id=self.recipient.id,
            amount=self.amount,
            currency=self.currency,
        )
        told.sent_at.FromDatetime(moment(system_clock()))
        event = events_pb2.TransfersSent(transfers=[told])
        return Event(TRANSFERS_SENT, self.transaction_id, 1, event, self.event_id)


@dataclass
class Telling:
    """Payment's outbox with its relay, and messaging. `tables` are messaging's."""

    people: Talkers
    heard: Recorder
    server: NatsServer
    payment: Database
    tables: asyncpg.Connection

    async def tell(self, *sent: Sent) -> None:
        """Payment writes events."""
        async with self.payment.transaction() as connection:
            await Outbox(lambda: None).add(connection, *(one.event() for one in sent))

    async def tell_again(self, sent: Sent, *, event_id: uuid.UUID | None = None) -> None:
        """The bus has an event once more, perhaps under another id, as if the first were long forgotten."""
        event = sent.event()
        headers = {
            "ce-id": str(event_id or event.id),
            "ce-subject": str(event.aggregate_id),
            "ce-aggregateversion": "1",
        }
        async with self.server.client(ADMIN) as admin:
            payload = event.payload.SerializeToString()
            await admin.jetstream().publish(event.subject, payload, headers=headers)

    async def direct(self, who: Talker) -> Dialog | None:
        """The one dialog that somebody is in."""
        found = (await who.ListDialogs(pb.ListDialogsRequest())).dialogs
        assert len(found) <= 1
        return found[0] if found else None

    async def payments(self, who: Talker) -> list[Message]:
        """What somebody sees of payments in the one dialog that they are in."""
        dialog = await self.direct(who)
        if dialog is None:
            return []
        return [one for one in await who.history(dialog.id) if one.type == "payment"]

    async def shows(self, who: Talker, *sent: Sent) -> None:
        """Until somebody sees so many payments; these are the given ones."""

        async def count() -> int:
            return len(await self.payments(who))

        await until(count, len(sent), within=WITHIN)
        wanted = {(str(one.transaction_id), one.amount, one.currency) for one in sent}
        found = [one.content.payment for one in await self.payments(who)]
        assert {(one.transaction_id, one.amount, one.currency) for one in found} == wanted

    async def settled(self, *sent: Sent) -> None:
        """Until these events are consumed, and the bus has nothing more for messaging."""

        async def left() -> int:
            ids = [one.event_id for one in sent]
            known = await self.tables.fetchval("SELECT count(*) FROM inbox WHERE event_id = ANY ($1)", ids)
            async with self.server.client(ADMIN) as admin:
                try:
                    info = await admin.jetstream().consumer_info("SAMPAN_PAYMENT", "messaging")
                except NotFoundError:
                    # Not made yet, or not made anew.
                    return -1
            return len(ids) - int(known) + int(info.num_pending or 0) + int(info.num_ack_pending or 0)

        await until(left, 0, within=WITHIN)


@asynccontextmanager
async def telling(
    server: NatsServer,
    payment_database: Clone,
    messaging_database: Clone,
    accounts: Clone,
    identity: str,
    pki: Pki,
) -> AsyncIterator[Telling]:
    """Both services behind their chains; `identity` is where identity is, `accounts` its database."""
    mesh = MeshSettings(**QUICK, peers={"identity": [identity]})
    minter, heard = Minter(), Recorder()
    async with AsyncExitStack() as closing:
        enter = closing.enter_async_context
        first = await payment_app(payment_database, pki, mesh, minter, nats_url=server.url("payment"))
        await enter(serving(first, mesh))
        second = await messaging_app(
            messaging_database, pki, mesh, minter, heard, nats_url=server.url("messaging")
        )
        talking = await enter(serving(second, mesh))
        edge = await enter(channel_as("edge", talking, "messaging", pki))
        service = await enter(channel_as("workspace", talking, "messaging", pki))
        people = await enter(talkers(edge, service, minter, accounts.owner_url))
        payment = Database(payment_database.runtime_url, pool=2, timeout=5, name="tests")
        closing.push_async_callback(payment.close)
        tables = await asyncpg.connect(messaging_database.owner_url)
        closing.push_async_callback(tables.close)
        yield Telling(people, heard, server, payment, tables)
