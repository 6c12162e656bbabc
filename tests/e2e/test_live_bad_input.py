"""What clients of live streams do wrong: each is told why, and nobody else notices."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.messaging.encoding import varint
from tests.support import parts
from tests.support.live_doors import (
    DOORS,
    BinaryWebSocketLine,
    ConnectLine,
    NdjsonLine,
    WebSocketLine,
    half_open,
    opened,
)
from tests.support.live_lines import Edge, Line
from tests.support.signing import resume_token
from tests.support.waiting import until

SPEAKING = tuple(door for door in DOORS if door.speaks)
SOCKETS = (WebSocketLine, BinaryWebSocketLine)
CONNECT = "/sampan.messaging.v1.MessagingService/Connect"


def padded(mebibytes: float) -> bytes:
    """A ping, and so much in a field that nobody knows."""
    size = int(mebibytes * (1 << 20))
    return b"\x3a\x00\xfa\x01" + varint(size) + b"x" * size


@pytest.fixture(autouse=True)
async def unharmed(edge: Edge) -> AsyncIterator[None]:
    """The process that was there before is there after, and somebody who listens meanwhile misses nothing."""
    pid = parts.pid_of(edge.stack, "chat")
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    bystander = NdjsonLine(edge, bob.token)
    async with opened(bystander):
        await ann.say(dialog.id, "before")
        yield
        await ann.say(dialog.id, "after")
        await bystander.has(dialog.id, 3)
        assert bystander.seqs(dialog.id) == [2, 3]
        assert bystander.connected == 1
    assert parts.pid_of(edge.stack, "chat") == pid


def sending(dialog_id: str, text: str = "hello", **more: Any) -> frame_pb2.ConnectRequest:
    """A frame that writes a message."""
    frame = frame_pb2.ConnectRequest(
        ref=secrets.token_hex(4), send=frame_pb2.Send(dialog_id=dialog_id, **more)
    )
    frame.send.content.text = text
    return frame


@pytest.mark.parametrize("door", SPEAKING, ids=lambda door: door.door)
async def test_a_message_that_may_not_be_is_answered_with_its_reason_and_the_stream_goes_on(
    edge: Edge, door: type[Line]
) -> None:
    ann, bob, cat = [await edge.talker() for _ in range(3)]
    dialog, foreign = await ann.direct(bob), await bob.group(cat)
    theirs = await bob.say(foreign.id, "not for ann")
    line = door(edge, ann.token)
    async with opened(line):
        for frame, reason in (
            (sending(str(uuid.uuid4())), "DIALOG_NOT_FOUND"),
            (sending(foreign.id), "DIALOG_NOT_FOUND"),
            (sending(dialog.id, reply_to=theirs.id), "REPLY_NOT_FOUND"),
            (sending(dialog.id, thread_id=theirs.id), "REPLY_NOT_FOUND"),
            (sending(dialog.id, client_message_id="once"), ""),
            (sending(dialog.id, "other", client_message_id="once"), "CLIENT_MESSAGE_ID_REUSED"),
        ):
            assert (await line.ask(frame)).reason == reason
        await bob.BlockUser(pb.BlockUserRequest(user_id=ann.id))
        assert (await line.ask(sending(dialog.id))).reason == "BLOCKED"
        await bob.UnblockUser(pb.UnblockUserRequest(user_id=ann.id))
        assert (await line.ask(sending(dialog.id, "x" * 8192))).reason == ""
        assert line.seqs(dialog.id) == [2, 3]


@pytest.mark.parametrize("door", SPEAKING, ids=lambda door: door.door)
async def test_a_frame_that_breaks_a_rule_of_the_contract_ends_the_stream(
    edge: Edge, door: type[Line]
) -> None:
    ann = await edge.talker()
    for frame in (
        sending(str(uuid.uuid4()), "x" * 8193),
        sending("no uuid"),
        frame_pb2.ConnectRequest(ref="r" * 65, ping=frame_pb2.Ping()),
        frame_pb2.ConnectRequest(ref="empty"),
        frame_pb2.ConnectRequest(hello=frame_pb2.Hello()),
    ):
        line = door(edge, ann.token, name="first")
        async with opened(line):
            await line.ask(frame_pb2.ConnectRequest(ref="p", ping=frame_pb2.Ping()))
            await line.say(frame)
            end = await line.ends()
            assert end is not None, (frame, line.lost)
            assert (end.reason, bool(end.detail)) == ("FRAME_INVALID", True), frame


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.door)
async def test_tokens_that_are_forged_foreign_or_ahead_begin_no_stream(edge: Edge, door: type[Line]) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    line = door(edge, bob.token)
    async with opened(line):
        pass
    flipped = bytearray(base64.urlsafe_b64decode(line.resume + "=" * (-len(line.resume) % 4)))
    flipped[-20] ^= 1
    forged = base64.urlsafe_b64encode(flipped).rstrip(b"=").decode()
    for token in (forged, line.resume[:-4], line.resume + "A" * 4, "A", "ก", "A" * 5000):
        refused = await door(edge, bob.token, resume=token).open().is_refused()
        assert refused.reason == "RESUME_TOKEN_INVALID", token[:80]
    foreign = await door(edge, ann.token, resume=line.resume).open().is_refused()
    assert foreign.reason == "RESUME_TOKEN_INVALID"


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.door)
async def test_a_token_ahead_of_the_log_begins_no_stream(edge: Edge, door: type[Line]) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    said = await ann.say(dialog.id)
    # As a device has it after the database was restored from yesterday.
    for seq, reason in ((said.seq, ""), (said.seq + 1, "RESUME_TOKEN_AHEAD")):
        token = resume_token(edge.stack, uuid.UUID(bob.id), {uuid.UUID(dialog.id): seq})
        line = door(edge, bob.token, resume=token)
        if reason:
            assert (await line.open().is_refused()).reason == reason
        else:
            async with opened(line):
                assert line.seqs(dialog.id) == []


@pytest.mark.parametrize("door", SPEAKING, ids=lambda door: door.door)
async def test_a_flood_ends_the_stream(edge: Edge, door: type[Line]) -> None:
    ann = await edge.talker()
    line = door(edge, ann.token)
    async with opened(line):
        await flood(line)
        end = await line.ends()
        assert end is not None
        assert end.reason == "FRAME_FLOOD"
        # What comes after the end is nobody's business, and hurts nobody.
        with contextlib.suppress(ConnectionError):
            await line.say(frame_pb2.ConnectRequest(ping=frame_pb2.Ping()))


async def flood(line: Line) -> None:
    """Says more than anybody may, until it is cut off."""
    with contextlib.suppress(ConnectionError):
        for _ in range(20_000):
            await line.say(frame_pb2.ConnectRequest(ping=frame_pb2.Ping()))
            # Who never reads is not told why, but is cut off after 3 s, which a busy machine needs for this.
            await asyncio.sleep(0)


@pytest.mark.parametrize("door", SOCKETS, ids=lambda door: door.door)
@pytest.mark.parametrize(
    "message",
    ["{", "[]", "null", '"text"', '{"send": 1}', "\udc80", "[" * 100_000, b"\xff\xff\xff", b"\x0a\xff"],
    ids=lambda message: repr(message)[:12],
)
async def test_what_is_no_frame_ends_the_stream(
    edge: Edge, door: type[WebSocketLine], message: str | bytes
) -> None:
    ann = await edge.talker()
    line = door(edge, ann.token)
    async with opened(line):
        if message == "\udc80":
            # A text message whose bytes are no UTF-8.
            assert line.socket is not None
            await line.socket.send(b"\xff\xfe", text=True)
            await line.ends()
            assert line.socket.close_code == 1007
            return
        await line.send(message)
        end = await line.ends()
        assert end is not None, line.lost
        assert end.reason in {"FRAME_INVALID", "MALFORMED_REQUEST"}, end


@pytest.mark.parametrize("door", SOCKETS, ids=lambda door: door.door)
async def test_a_websocket_message_over_the_limit_ends_the_stream(
    edge: Edge, door: type[WebSocketLine]
) -> None:
    ann = await edge.talker()
    for size in (256 * 1024 + 1, 5 << 20):
        line = door(edge, ann.token)
        async with opened(line):
            assert line.socket is not None
            with contextlib.suppress(ConnectionError):
                await line.send("x" * size if door is WebSocketLine else b"x" * size)
            await line.ends()
            assert line.socket.close_code == 1009


@pytest.mark.parametrize(
    "message",
    [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", padded(0.25), padded(1), padded(5)],
    ids=["no protobuf", "no UTF-8", "large", "larger", "largest"],
)
async def test_what_is_no_frame_ends_a_call_of_connect(edge: Edge, message: bytes) -> None:
    ann = await edge.talker()
    call: Any = edge.channel.stream_stream(
        CONNECT, request_serializer=bytes, response_deserializer=frame_pb2.Frame.FromString
    )(metadata=[("authorization", f"Bearer {ann.token}")])
    await call.write(frame_pb2.ConnectRequest(hello=frame_pb2.Hello()).SerializeToString())
    frames = [await call.read()]
    assert frames[0].live
    await call.write(message)
    ended = ""
    try:
        while (frame := await call.read()) is not grpc.aio.EOF:
            ended = frame.end.reason
    except grpc.aio.AioRpcError as error:
        # gRPC itself takes no message of more than 4 MiB, and gives no reason.
        ended = error.code().name
    assert ended == ("FRAME_INVALID" if len(message) < 4 << 20 else "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize("door", SPEAKING, ids=lambda door: door.door)
async def test_what_is_said_after_the_end_is_not_done(edge: Edge, door: type[Line]) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    line = door(edge, ann.token)
    async with opened(line):
        await line.ask(frame_pb2.ConnectRequest(ref="first", ping=frame_pb2.Ping()))
        await line.say(frame_pb2.ConnectRequest(hello=frame_pb2.Hello()))
        with contextlib.suppress(ConnectionError):
            for _ in range(10):
                await line.say(sending(dialog.id, "late"))
        end = await line.ends()
        assert end is not None, line.lost
        assert end.reason == "FRAME_INVALID"
    assert (await bob.see(dialog.id)).last_seq == 1


@pytest.mark.parametrize("door", SPEAKING, ids=lambda door: door.door)
async def test_a_token_that_is_not_ones_own_is_not_kept(edge: Edge, door: type[Line]) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    theirs, line = NdjsonLine(edge, bob.token), door(edge, ann.token, name="phone")
    async with opened(theirs, line):
        forged = line.resume[:-4] + ("AAAA" if line.resume[-4:] != "AAAA" else "BBBB")
        for token, reason in (
            (theirs.resume, "RESUME_TOKEN_INVALID"),
            (forged, "RESUME_TOKEN_INVALID"),
            (line.resume, ""),
        ):
            ack = frame_pb2.ConnectRequest(ref=secrets.token_hex(4), ack=frame_pb2.Ack(resume=token))
            assert (await line.ask(ack)).reason == reason


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/websocket?unknown=1", 400, "UNKNOWN_QUERY_PARAMETER"),
        ("/websocket?format=xml", 400, "INVALID_ARGUMENT"),
        ("/websocket?resume=AAAA", 400, "RESUME_TOKEN_INVALID"),
        ("/websocket?device_id=%20", 400, "INVALID_ARGUMENT"),
        (f"/websocket?device_id={'d' * 65}", 400, "INVALID_ARGUMENT"),
        ("/websocket?device_id=%F0%9F%9B%B6&format=protobuf", 400, "INVALID_ARGUMENT"),
        ("/websocket/", 400, "MALFORMED_REQUEST"),
    ],
)
async def test_an_address_that_is_wrong_is_refused_before_it_is_a_websocket(
    edge: Edge, path: str, status: int, reason: str
) -> None:
    ann = await edge.talker()
    url = f"ws://127.0.0.1:{edge.stack.port}{path}"
    headers = {"authorization": f"Bearer {ann.token}"}
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, additional_headers=headers, proxy=None)
    assert refused.value.response.status_code == status
    assert f'"reason":"{reason}"' in (refused.value.response.body or b"").decode().replace(": ", ":")


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.door)
async def test_a_device_with_a_name_that_may_not_be_gets_no_stream(edge: Edge, door: type[Line]) -> None:
    ann = await edge.talker()
    refused = await door(edge, ann.token, name=" ").open().is_refused()
    # In Connect it stands in a hello, which is a frame like others.
    assert refused.reason == ("FRAME_INVALID" if door is ConnectLine else "INVALID_ARGUMENT")


async def test_an_unknown_parameter_of_events_is_refused(edge: Edge) -> None:
    ann = await edge.talker()
    reply = await edge.clients.rest.call("GET", "/v1/events?unknown=1", token=ann.token)
    assert (reply.code, reply.reason) == (400, "UNKNOWN_QUERY_PARAMETER")


async def test_a_token_in_an_address_stands_in_no_log(edge: Edge) -> None:
    ann = await edge.talker()
    wrong = f"{ann.token[:-6]}canary"
    async with opened(WebSocketLine(edge, ann.token)):
        pass
    for token in (wrong, "no.token.canary", f"{ann.token}%20canary"):
        for more in ("", "&unknown=1"):
            with pytest.raises(InvalidStatus):
                await connect(f"ws://127.0.0.1:{edge.stack.port}/websocket?token={token}{more}", proxy=None)
    with pytest.raises(InvalidStatus):
        await connect(f"{edge.websocket(token=ann.token)}&unknown=1", proxy=None)
    await logged(edge, "/websocket")
    for log in (edge.stack.home / "logs").iterdir():
        written = log.read_text(errors="replace")
        assert "canary" not in written, log
        assert ann.token.split(".")[1] not in written, log


async def logged(edge: Edge, what: str) -> None:
    """Waits until the edge has written of something."""
    log = edge.stack.home / "logs" / "envoy.log"

    async def written() -> bool:
        return what in log.read_text(errors="replace")

    await until(written, True, within=20)


async def test_clients_that_read_nothing_any_more_hurt_nobody(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    reader = NdjsonLine(edge, bob.token)
    deaf = [await half_open(edge, bob.token, websocket=websocket) for websocket in (False, True) * 5]
    try:
        async with opened(reader):
            for _ in range(10):
                await asyncio.gather(*(ann.say(dialog.id, "x" * 8000) for _ in range(50)))
            await reader.has(dialog.id, 501, within=30)
            assert reader.seqs(dialog.id) == list(range(2, 502))
    finally:
        for one in deaf:
            one.close()


@pytest.mark.parametrize("door", SPEAKING, ids=lambda door: door.door)
@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (frame_pb2.Hello(resume="A" * 5000), "RESUME_TOKEN_INVALID"),
        (frame_pb2.Hello(device_id="my phone"), "FRAME_INVALID"),
    ],
    ids=["token", "name"],
)
async def test_a_hello_that_is_wrong_begins_no_stream(
    edge: Edge, door: type[Line], hello: frame_pb2.Hello, reason: str
) -> None:
    ann = await edge.talker()
    line = door(edge, ann.token)
    line.first = frame_pb2.ConnectRequest(hello=hello)
    assert (await line.open().is_refused()).reason == reason
    assert not any(frame.resume or frame.events for frame in line.frames)


@pytest.mark.parametrize("door", SPEAKING, ids=lambda door: door.door)
async def test_a_first_frame_that_breaks_a_rule_begins_no_stream(edge: Edge, door: type[Line]) -> None:
    ann = await edge.talker()
    for frame in (sending(str(uuid.uuid4()), "x" * 8193), frame_pb2.ConnectRequest(ref="empty")):
        line = door(edge, ann.token)
        line.first = frame
        assert (await line.open().is_refused()).reason == "FRAME_INVALID"
        assert not any(frame.resume or frame.events for frame in line.frames)
