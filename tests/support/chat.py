"""People who talk: accounts that identity knows, and messaging as they call it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc

from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.messaging.v1.dialog_pb2 import Dialog
from sampan.messaging.v1.frame_pb2 import Event
from sampan.messaging.v1.message_pb2 import Content, Message
from sampan.messaging.v1.messaging_internal_service_pb2_grpc import MessagingInternalServiceStub
from sampan.messaging.v1.messaging_service_pb2_grpc import MessagingServiceStub
from services.messaging.publishing import LiveEvent
from tests.support.mesh import Minter


@dataclass
class Recorder:
    """A publisher that remembers what it was told."""

    live: list[LiveEvent] = field(default_factory=list)
    receipts: list[tuple[str, str, int, int, bool]] = field(default_factory=list)
    came: list[tuple[str, str]] = field(default_factory=list)
    went: list[tuple[str, str, int]] = field(default_factory=list)
    writing: list[tuple[str, str]] = field(default_factory=list)

    def events(self, events: Sequence[LiveEvent]) -> None:
        self.live.extend(events)

    def receipt(
        self, dialog_id: uuid.UUID, user_id: uuid.UUID, read_seq: int, unread: int, *, to_all: bool
    ) -> None:
        self.receipts.append((str(dialog_id), str(user_id), read_seq, unread, to_all))

    def joined(self, dialog_id: uuid.UUID, user_ids: Sequence[uuid.UUID]) -> None:
        self.came.extend((str(dialog_id), str(one)) for one in user_ids)

    def left(self, dialog_id: uuid.UUID, user_ids: Sequence[uuid.UUID], seq: int) -> None:
        self.went.extend((str(dialog_id), str(one), seq) for one in user_ids)

    def typing(self, dialog_id: uuid.UUID, user_id: uuid.UUID) -> None:
        self.writing.append((str(dialog_id), str(user_id)))

    def of(self, dialog_id: str) -> list[Event]:
        """The events of a dialog, in the order in which they were told."""
        return [Event.FromString(one.data) for one in self.live if str(one.dialog_id) == dialog_id]


@dataclass(frozen=True)
class Talker:
    """Somebody with an account and a token. Attributes are the methods of the service."""

    stub: Any
    id: str
    token: str

    def __getattr__(self, method: str) -> Any:
        def call(request: Any) -> Awaitable[Any]:
            metadata = [("authorization", f"Bearer {self.token}")]
            return getattr(self.stub, method)(request, metadata=metadata)  # type: ignore[no-any-return]

        return call

    async def direct(self, other: Talker) -> Dialog:
        """Their direct dialog."""
        made: Dialog = await self.CreateDialog(pb.CreateDialogRequest(participants=[other.id]))
        return made

    async def group(self, *others: Talker, title: str = "a group") -> Dialog:
        """A new group."""
        made: Dialog = await self.CreateDialog(
            pb.CreateDialogRequest(participants=[one.id for one in others], title=title)
        )
        return made

    async def say(self, dialog_id: str, text: str = "hello", **more: Any) -> Message:
        """Writes a message."""
        request = pb.SendMessageRequest(dialog_id=dialog_id, content=Content(text=text), **more)
        made: Message = await self.SendMessage(request)
        return made

    async def see(self, dialog_id: str) -> Dialog:
        """A dialog as it is for them."""
        found: Dialog = await self.GetDialog(pb.GetDialogRequest(dialog_id=dialog_id))
        return found

    async def read(self, message_id: str) -> pb.MarkReadResponse:
        """Marks as read."""
        done: pb.MarkReadResponse = await self.MarkRead(pb.MarkReadRequest(id=message_id))
        return done

    async def edit(self, message_id: str, text: str, *mentions: str, **more: Any) -> Message:
        """Changes a text."""
        request = pb.EditMessageRequest(id=message_id, content=Content(text=text), mentions=mentions, **more)
        made: Message = await self.EditMessage(request)
        return made

    async def history(self, dialog_id: str, **more: Any) -> list[Message]:
        """Messages of a dialog."""
        request = pb.ListMessagesRequest(dialog_id=dialog_id, **{"limit": 100, **more})
        found: pb.ListMessagesResponse = await self.ListMessages(request)
        return list(found.messages)


@dataclass(frozen=True)
class Talkers:
    """Makes people: in identity's own table, so that registering costs nothing here."""

    stub: MessagingServiceStub
    internal: MessagingInternalServiceStub
    minter: Minter
    accounts: asyncpg.Connection

    async def new(self, **claims: Any) -> Talker:
        """Somebody new."""
        return (await self.some(1, **claims))[0]

    async def some(self, count: int, **claims: Any) -> list[Talker]:
        """Several new people."""
        ids = [uuid.uuid4() for _ in range(count)]
        await self.accounts.executemany(
            "INSERT INTO accounts (id, username, display_name) VALUES ($1, $2, $2)",
            [(one, f"u{one.hex}") for one in ids],
        )
        return [Talker(self.stub, str(one), self.minter.token(str(one), **claims)) for one in ids]


@asynccontextmanager
async def talkers(
    edge: grpc.aio.Channel, service: grpc.aio.Channel, minter: Minter, accounts_url: str
) -> AsyncIterator[Talkers]:
    """People of a messaging service; `accounts_url` is that of identity's database."""
    accounts = await asyncpg.connect(accounts_url)
    try:
        yield Talkers(MessagingServiceStub(edge), MessagingInternalServiceStub(service), minter, accounts)
    finally:
        await accounts.close()
