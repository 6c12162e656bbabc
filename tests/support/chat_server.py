"""A small server of chat in the test's own process, which drops, ends and forgets on command.

It keeps to the contract of Connect as far as a client sees it. What the real services do is tested elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from sampan.identity.v1 import identity_service_pb2 as identity
from sampan.identity.v1.identity_service_pb2_grpc import (
    IdentityServiceServicer,
    add_IdentityServiceServicer_to_server,
)
from sampan.messaging.v1 import dialog_pb2, frame_pb2, message_pb2
from sampan.messaging.v1 import messaging_service_pb2 as api
from sampan.messaging.v1.messaging_service_pb2_grpc import (
    MessagingServiceServicer,
    add_MessagingServiceServicer_to_server,
)

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class Stream:
    """One that is open."""

    user_id: str
    hello: frame_pb2.Hello
    frames: asyncio.Queue[frame_pb2.Frame | None] = field(default_factory=asyncio.Queue)
    sent: dict[str, int] = field(default_factory=dict)


@dataclass
class Faults:
    """What goes wrong next."""

    # Streams that are refused with UNAVAILABLE before their first frame.
    refuse_streams: int = 0
    # Sends that are kept, and whose stream breaks before the answer.
    break_after_send: int = 0
    # Unary sends that are answered only when so many of them wait.
    gather_sends: int = 1
    # Unary sends that are kept and answered UNAVAILABLE.
    lose_answers: int = 0
    # Replies that say QUEUE_FULL, with nothing kept.
    queue_full: int = 0
    # Reason that any resume token is refused with.
    refuse_resume: str = ""


class ChatServer(IdentityServiceServicer, MessagingServiceServicer):
    """Identity and messaging in memory."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.address = ""
        # Where it takes WebSockets, if it does.
        self.websocket = ""
        self.accounts: dict[str, tuple[str, str]] = {}
        self.tokens: dict[str, str] = {}
        self.refresh: dict[str, str] = {}
        self.refreshes: list[str] = []
        self.dialogs: dict[str, list[str]] = {}
        self.log: dict[str, list[frame_pb2.Event]] = {}
        self.kept: dict[tuple[str, str, str], message_pb2.Message] = {}
        self.acknowledged: dict[tuple[str, str], str] = {}
        self.streams: list[Stream] = []
        self.hellos: list[frame_pb2.Hello] = []
        self.unary_sends = 0
        self._gathered = asyncio.Event()

    # What tests do to it.

    def drop(self) -> None:
        """Breaks all streams without a word."""
        for stream in self.streams:
            stream.frames.put_nowait(None)

    def end(self, reason: str, retry_after_ms: int = 0) -> None:
        """Ends all streams with a reason."""
        for stream in self.streams:
            end = frame_pb2.End(reason=reason, detail="told to", retry_after_ms=retry_after_ms)
            stream.frames.put_nowait(frame_pb2.Frame(end=end))

    def expire(self) -> None:
        """No access token is good any longer; refresh tokens are."""
        self.tokens.clear()

    def dialog_of(self, *users: str) -> str:
        """A new dialog."""
        dialog_id = str(uuid.uuid4())
        self.dialogs[dialog_id] = list(users)
        self.log[dialog_id] = []
        created = frame_pb2.DialogCreated(kind="direct", member_ids=users)
        self.append(dialog_id, users[0], dialog_created=created)
        return dialog_id

    def append(self, dialog_id: str, actor: str, **change: Any) -> frame_pb2.Event:
        """The next event of a dialog, told to all."""
        seq = len(self.log[dialog_id]) + 1
        event = frame_pb2.Event(dialog_id=dialog_id, seq=seq, actor_id=actor, at=now(), **change)
        self.log[dialog_id].append(event)
        for stream in self.streams:
            if stream.user_id in self.dialogs[dialog_id]:
                self._tell(stream, event)
        return event

    def say(self, dialog_id: str, actor: str, text: str) -> message_pb2.Message:
        """A message that somebody else wrote."""
        return self.keep(actor, frame_pb2.Send(dialog_id=dialog_id, content=message_pb2.Content(text=text)))

    def keep(self, actor: str, send: frame_pb2.Send) -> message_pb2.Message:
        """A message, once for each client id."""
        key = (send.dialog_id, actor, send.client_message_id or uuid.uuid4().hex)
        if key not in self.kept:
            seq = len(self.log[send.dialog_id]) + 1
            message = message_pb2.Message(
                id=message_id(send.dialog_id, seq),
                dialog_id=send.dialog_id,
                seq=seq,
                sender_id=actor,
                type="text",
                content=send.content,
                client_message_id=key[2],
                created_at=now(),
            )
            self.kept[key] = message
            self.append(send.dialog_id, actor, message_created=message)
        return self.kept[key]

    def texts(self, dialog_id: str) -> list[str]:
        """What was kept, in order."""
        found = (event.message_created for event in self.log[dialog_id])
        return [message.content.text for message in found if message.id]

    # Identity.

    async def Register(
        self, request: identity.RegisterRequest, context: Context
    ) -> identity.RegisterResponse:
        if request.username in self.accounts:
            await refuse(context, grpc.StatusCode.ALREADY_EXISTS, "USERNAME_TAKEN")
        self.accounts[request.username] = (str(uuid.uuid4()), request.password)
        found = await self.Login(
            identity.LoginRequest(username=request.username, password=request.password), context
        )
        return identity.RegisterResponse(
            id=found.id, access_token=found.access_token, refresh_token=found.refresh_token, expires_in=900
        )

    async def Login(self, request: identity.LoginRequest, context: Context) -> identity.LoginResponse:
        user_id, password = self.accounts.get(request.username, ("", ""))
        if not user_id or password != request.password:
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "INVALID_CREDENTIALS")
        access, fresh = self._pair(user_id)
        return identity.LoginResponse(id=user_id, access_token=access, refresh_token=fresh, expires_in=900)

    async def RefreshToken(
        self, request: identity.RefreshTokenRequest, context: Context
    ) -> identity.RefreshTokenResponse:
        self.refreshes.append(request.request_id)
        if request.refresh_token not in self.refresh:
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
        access, fresh = self._pair(self.refresh.pop(request.refresh_token))
        return identity.RefreshTokenResponse(access_token=access, refresh_token=fresh, expires_in=900)

    async def Logout(self, request: identity.LogoutRequest, context: Context) -> identity.LogoutResponse:
        return identity.LogoutResponse()

    def _pair(self, user_id: str) -> tuple[str, str]:
        access, fresh = uuid.uuid4().hex, uuid.uuid4().hex
        self.tokens[access] = self.refresh[fresh] = user_id
        return access, fresh

    async def _user(self, context: Context) -> str:
        for name, value in context.invocation_metadata() or ():
            if name == "authorization":
                found = self.tokens.get(str(value).removeprefix("Bearer "))
                if found:
                    return found
        await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
        return ""

    # Messaging.

    async def CreateDialog(self, request: api.CreateDialogRequest, context: Context) -> dialog_pb2.Dialog:
        user = await self._user(context)
        members = sorted((user, *request.participants))
        for dialog_id, found in self.dialogs.items():
            if sorted(found) == members:
                return self._dialog(dialog_id)
        return self._dialog(self.dialog_of(user, *request.participants))

    async def GetDialog(self, request: api.GetDialogRequest, context: Context) -> dialog_pb2.Dialog:
        user = await self._user(context)
        if user not in self.dialogs.get(request.dialog_id, ()):
            await refuse(context, grpc.StatusCode.NOT_FOUND, "DIALOG_NOT_FOUND")
        return self._dialog(request.dialog_id)

    async def SendMessage(self, request: api.SendMessageRequest, context: Context) -> message_pb2.Message:
        user = await self._user(context)
        self.unary_sends += 1
        send = frame_pb2.Send(
            dialog_id=request.dialog_id,
            content=request.content,
            client_message_id=request.client_message_id,
        )
        if request.dialog_id not in self.dialogs:
            await refuse(context, grpc.StatusCode.NOT_FOUND, "DIALOG_NOT_FOUND")
        kept = self.keep(user, send)
        if self.unary_sends >= self.faults.gather_sends:
            self._gathered.set()
        await self._gathered.wait()
        if self.faults.lose_answers:
            self.faults.lose_answers -= 1
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN")
        return kept

    async def ListMessages(
        self, request: api.ListMessagesRequest, context: Context
    ) -> api.ListMessagesResponse:
        await self._user(context)
        found = [event.message_created for event in self.log[request.dialog_id]]
        found = [one for one in found if one.id and one.seq > request.after_seq]
        return api.ListMessagesResponse(messages=found[-(request.limit or 10) :])

    async def MarkRead(self, request: api.MarkReadRequest, context: Context) -> api.MarkReadResponse:
        user = await self._user(context)
        dialog_id, seq = of_message_id(request.id)
        receipt = frame_pb2.Receipt(dialog_id=dialog_id, user_id=user, read_seq=seq)
        for stream in self.streams:
            if stream.user_id in self.dialogs[dialog_id]:
                stream.frames.put_nowait(frame_pb2.Frame(receipts=[receipt]))
        return api.MarkReadResponse(dialog_id=dialog_id, read_seq=seq)

    async def AckEvents(self, request: api.AckEventsRequest, context: Context) -> api.AckEventsResponse:
        self.acknowledged[await self._user(context), request.device_id] = request.resume
        return api.AckEventsResponse()

    async def Connect(
        self, requests: AsyncIterator[frame_pb2.ConnectRequest], context: Context
    ) -> AsyncIterator[frame_pb2.Frame]:
        user = await self._user(context)
        if self.faults.refuse_streams:
            self.faults.refuse_streams -= 1
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        hello = (await anext(requests)).hello
        self.hellos.append(hello)
        if hello.resume and self.faults.refuse_resume:
            await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, self.faults.refuse_resume)
        stream = Stream(user, hello)
        self._open(stream)
        self.streams.append(stream)
        reading = asyncio.create_task(self._read(stream, requests))
        try:
            while (frame := await stream.frames.get()) is not None:
                yield frame
                if frame.HasField("end"):
                    return
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        finally:
            self.streams.remove(stream)
            reading.cancel()

    def _open(self, stream: Stream) -> None:
        token = stream.hello.resume or self.acknowledged.get((stream.user_id, stream.hello.device_id), "")
        positions = json.loads(base64.urlsafe_b64decode(token)) if token else None
        mine = [one for one, members in self.dialogs.items() if stream.user_id in members]
        heads = [frame_pb2.Head(dialog_id=one, last_seq=len(self.log[one])) for one in mine]
        stream.frames.put_nowait(frame_pb2.Frame(heads=heads))
        for one in mine:
            stream.sent[one] = len(self.log[one]) if positions is None else positions.get(one, 0)
            for event in self.log[one][stream.sent[one] :]:
                self._tell(stream, event)
        stream.frames.put_nowait(frame_pb2.Frame(live=True, resume=self._token(stream)))

    def _tell(self, stream: Stream, event: frame_pb2.Event) -> None:
        stream.sent[event.dialog_id] = event.seq
        stream.frames.put_nowait(frame_pb2.Frame(events=[event], resume=self._token(stream)))

    def _token(self, stream: Stream) -> str:
        return base64.urlsafe_b64encode(json.dumps(stream.sent).encode()).decode()

    async def _read(self, stream: Stream, requests: AsyncIterator[frame_pb2.ConnectRequest]) -> None:
        async for request in requests:
            match request.WhichOneof("frame"):
                case "send":
                    self._send(stream, request)
                case "ack":
                    self.acknowledged[stream.user_id, stream.hello.device_id] = request.ack.resume
                case "typing":
                    self._typing(stream, request.typing.dialog_id)

    def _send(self, stream: Stream, request: frame_pb2.ConnectRequest) -> None:
        reply = frame_pb2.Reply(ref=request.ref)
        if self.faults.queue_full:
            self.faults.queue_full -= 1
            reply.reason = "QUEUE_FULL"
        elif stream.user_id not in self.dialogs.get(request.send.dialog_id, ()):
            reply.reason = "DIALOG_NOT_FOUND"
        else:
            kept = self.keep(stream.user_id, request.send)
            if self.faults.break_after_send:
                self.faults.break_after_send -= 1
                stream.frames.put_nowait(None)
                return
            reply.message.CopyFrom(kept)
        stream.frames.put_nowait(frame_pb2.Frame(replies=[reply]))

    def _typing(self, stream: Stream, dialog_id: str) -> None:
        told = frame_pb2.Frame(typing=[frame_pb2.Typing(dialog_id=dialog_id, user_id=stream.user_id)])
        for other in self.streams:
            if other.user_id in self.dialogs[dialog_id] and other.user_id != stream.user_id:
                other.frames.put_nowait(told)

    def _dialog(self, dialog_id: str) -> dialog_pb2.Dialog:
        members = [dialog_pb2.Member(user_id=one, role="member") for one in self.dialogs[dialog_id]]
        return dialog_pb2.Dialog(
            id=dialog_id, kind="direct", members=members, last_seq=len(self.log[dialog_id])
        )


def message_id(dialog_id: str, seq: int) -> str:
    """As the contract has it: 32 characters."""
    return base64.urlsafe_b64encode(uuid.UUID(dialog_id).bytes + seq.to_bytes(8, "big")).decode()


def of_message_id(given: str) -> tuple[str, int]:
    """Dialog and number."""
    raw = base64.urlsafe_b64decode(given)
    return str(uuid.UUID(bytes=raw[:16])), int.from_bytes(raw[16:], "big")


def now() -> Timestamp:
    """The time."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


async def refuse(context: Context, code: grpc.StatusCode, reason: str) -> None:
    """Fails a call as our services do."""
    status = status_pb2.Status(code=code.value[0], message=reason.lower())
    detail = status.details.add()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="sampan.messaging"))
    await context.abort_with_status(rpc_status.to_status(status))


@asynccontextmanager
async def serving_chat(port: int = 0) -> AsyncIterator[ChatServer]:
    """The server on a port of loopback."""
    servicer = ChatServer()
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    add_IdentityServiceServicer_to_server(servicer, server)
    add_MessagingServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(None)
