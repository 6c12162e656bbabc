"""ChatClient: one device of one person."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.message import Message as Proto

from sampan.messaging.v1 import frame_pb2, message_pb2
from sampan.messaging.v1 import messaging_service_pb2 as api
from sampan.messaging.v1.messaging_service_pb2_grpc import MessagingServiceStub
from services.client import models
from services.client.calls import Caller, TokenProvider, open_channel
from services.client.errors import ChatError
from services.client.live import LiveStream, Timing
from services.client.models import Dialog, Message
from services.client.outgoing import Outgoing
from services.client.transport import Transport, over_grpc
from services.client.updates import Event, Update, updates_of


class ChatClient:
    """Use it as `async with`. Everything raises ChatError with a reason of the contract.

    `resume` is `position` of an earlier client of the same person: `updates` then goes on exactly there. With
    a `device_id` alone it goes on where that device last acknowledged. `strict` raises OrderBroken when the
    server leaves out or repeats an event. `transport` carries the stream: gRPC, or what `over_websocket`
    makes. Acknowledges every `ack_events` events and every `ack_seconds`.
    """

    def __init__(
        self,
        target: str,
        credentials: grpc.ChannelCredentials | None,
        tokens: TokenProvider,
        device_id: str = "",
        *,
        resume: str = "",
        transport: Transport | None = None,
        strict: bool = True,
        timing: Timing | None = None,
        patience: float = 20.0,
        ack_events: int = 50,
        ack_seconds: float = 5.0,
    ) -> None:
        self._channel = open_channel(target, credentials)
        self._stub = MessagingServiceStub(self._channel)
        self._tokens = tokens
        self._caller = Caller(tokens, patience=patience)
        self._device_id = device_id
        self._ack_events = ack_events
        self._ack_seconds = ack_seconds
        self._outgoing = Outgoing(self._send_unary)
        self._live = LiveStream(
            transport or over_grpc(self._stub.Connect),
            tokens,
            self._outgoing,
            device_id=device_id,
            resume=resume,
            strict=strict,
            timing=timing or Timing(),
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._streaming = False
        self._ready: deque[Update] = deque()
        self._token_after = ""
        self._position = resume
        self._acknowledged = resume
        self._unacknowledged_events = 0

    async def __aenter__(self) -> ChatClient:
        """Ready to send."""
        self._tasks.append(asyncio.create_task(self._outgoing.run()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Acknowledges what was worked through, and goes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._outgoing.close()
        if self._must_acknowledge():
            with contextlib.suppress(ChatError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await self.call("AckEvents", self._ack_request())
        await self._channel.close(None)

    @property
    def user_id(self) -> str:
        """Whose device this is; known after the first call."""
        return self._tokens.user_id

    @property
    def position(self) -> str:
        """The `resume` of a client that shall go on after the last update that was worked through."""
        return self._position

    async def updates(self) -> AsyncIterator[Update]:
        """What happens, for ever; lost connections are mended, and told as Lost. One reader at a time.

        An update counts as worked through when the next one is asked for.
        """
        if not self._streaming:
            self._streaming = True
            self._outgoing.expect()
            self._tasks += [
                asyncio.create_task(self._live.run()),
                asyncio.create_task(self._acknowledge_now_and_then()),
            ]
        while True:
            while self._ready:
                update = self._ready.popleft()
                yield update
                self._unacknowledged_events += isinstance(update, Event)
            self._worked_through()
            item = await self._live.inbox.get()
            if isinstance(item, Exception):
                raise item
            if isinstance(item, frame_pb2.Frame):
                self._ready.extend(updates_of(item))
                self._token_after = item.resume
            else:
                self._ready.append(item)

    async def send(
        self,
        dialog_id: str,
        text: str,
        *,
        client_message_id: str = "",
        reply_to: str = "",
        thread_id: str = "",
        mentions: Sequence[str] = (),
        file_ids: Sequence[str] = (),
    ) -> Message:
        """Writes a message, once, whatever happens on the way; many may be under way at a time.

        Only id, dialog, number, client id and time of the answer are sure to be there.
        """
        raw = await self._outgoing.send(
            frame_pb2.Send(
                dialog_id=dialog_id,
                content=message_pb2.Content(text=text),
                client_message_id=client_message_id or uuid.uuid4().hex,
                reply_to=reply_to,
                thread_id=thread_id,
                mentions=mentions,
                file_ids=file_ids,
            )
        )
        return models.message(raw)

    def typing(self, dialog_id: str) -> None:
        """Says that one is writing; nothing comes of it while there is no connection."""
        signal = frame_pb2.TypingSignal(dialog_id=dialog_id)
        self._live.write(frame_pb2.ConnectRequest(typing=signal))

    async def call(self, method: str, request: Proto) -> Any:
        """Any unary method of MessagingService by its name, signed, with a `request_id`, tried again."""
        return await self._caller.call(getattr(self._stub, method), request)

    async def create_dialog(self, participants: Sequence[str], title: str = "", kind: str = "") -> Dialog:
        """A dialog with others; that of two people is there only once."""
        request = api.CreateDialogRequest(participants=participants, title=title, kind=kind)
        return models.dialog(await self.call("CreateDialog", request))

    async def dialog(self, dialog_id: str) -> Dialog:
        """One dialog."""
        return models.dialog(await self.call("GetDialog", api.GetDialogRequest(dialog_id=dialog_id)))

    async def dialogs(self) -> AsyncIterator[Dialog]:
        """All dialogs, those with the newest event first."""
        token = ""
        while True:
            page = await self.call("ListDialogs", api.ListDialogsRequest(limit=100, page_token=token))
            for one in page.dialogs:
                yield models.dialog(one)
            token = page.next_page_token
            if not page.has_more:
                return

    async def history(
        self, dialog_id: str, *, before_seq: int = 0, after_seq: int | None = None, limit: int = 50
    ) -> tuple[Message, ...]:
        """Messages in the order of their numbers: the newest, or those before or after one."""
        request = api.ListMessagesRequest(dialog_id=dialog_id, before_seq=before_seq, limit=limit)
        if after_seq is not None:
            request.after_seq = after_seq
        return tuple(models.message(one) for one in (await self.call("ListMessages", request)).messages)

    async def edit(self, message_id: str, text: str) -> Message:
        """Changes a text of one's own."""
        content = message_pb2.Content(text=text)
        return models.message(
            await self.call("EditMessage", api.EditMessageRequest(id=message_id, content=content))
        )

    async def delete(self, message_id: str) -> None:
        """Deletes a message."""
        await self.call("DeleteMessage", api.DeleteMessageRequest(id=message_id))

    async def react(self, message_id: str, emoji: str) -> None:
        """Puts an emoji under a message."""
        await self.call("AddReaction", api.AddReactionRequest(id=message_id, emoji=emoji))

    async def mark_read(self, message_id: str) -> int:
        """Marks all up to a message as read; how many are left."""
        answer = await self.call("MarkRead", api.MarkReadRequest(id=message_id))
        return int(answer.unread_count)

    async def _send_unary(self, send: frame_pb2.Send) -> message_pb2.Message:
        request = api.SendMessageRequest(
            dialog_id=send.dialog_id,
            content=send.content,
            client_message_id=send.client_message_id,
            reply_to=send.reply_to,
            thread_id=send.thread_id,
            file_ids=send.file_ids,
            mentions=send.mentions,
        )
        found: message_pb2.Message = await self.call("SendMessage", request)
        return found

    def _worked_through(self) -> None:
        self._position = self._token_after or self._position
        if self._unacknowledged_events >= self._ack_events:
            self._acknowledge()

    def _must_acknowledge(self) -> bool:
        return bool(self._device_id and self._position and self._position != self._acknowledged)

    def _acknowledge(self) -> None:
        if not self._must_acknowledge():
            return
        ack = frame_pb2.Ack(resume=self._position)
        if self._live.write(frame_pb2.ConnectRequest(ack=ack)):
            self._acknowledged = self._position
            self._unacknowledged_events = 0

    def _ack_request(self) -> api.AckEventsRequest:
        return api.AckEventsRequest(device_id=self._device_id, resume=self._position)

    async def _acknowledge_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._ack_seconds)
            self._acknowledge()
