"""What clients of live delivery do wrong: each is told its reason, and nobody else notices."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.messaging.v1.frame_pb2 import ConnectRequest as Words
from sampan.messaging.v1.frame_pb2 import Send
from sampan.messaging.v1.message_pb2 import Content
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.chat import Talker
from tests.support.databases import Clone
from tests.support.errors import reason_of
from tests.support.live import Chat, chat
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def live(
    messaging_database: Clone, identity: tuple[App, str], identity_database: Clone, pki: Pki
) -> AsyncIterator[Chat]:
    """Messaging, without NATS."""
    url = identity_database.owner_url
    async with chat(messaging_database, identity, url, pki, None, replicas=1) as found:
        yield found


async def _refused(live: Chat, who: Talker, resume: str) -> str:
    device = live.device(who, resume=resume)
    await device.ends()
    assert device.error is not None
    return reason_of(device.error)


async def test_a_token_that_is_not_ones_own_is_refused(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    await ann.say(dialog.id)
    token = (await live.device(ann).live()).resume
    forged = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    assert await _refused(live, bob, token) == "RESUME_TOKEN_INVALID"
    assert await _refused(live, ann, forged) == "RESUME_TOKEN_INVALID"
    assert await _refused(live, ann, "nonsense") == "RESUME_TOKEN_INVALID"
    assert await _refused(live, ann, token + "=") == "RESUME_TOKEN_INVALID"
    await live.device(ann, resume=token).live()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bob.AckEvents(pb.AckEventsRequest(device_id="phone", resume=token))
    assert reason_of(refused.value) == "RESUME_TOKEN_INVALID"


async def test_a_token_ahead_of_the_log_is_refused(live: Chat, messaging_database: Clone) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = await live.device(bob).live()
    await ann.say(dialog.id)
    await device.has(dialog.id, 2)
    owner = await asyncpg.connect(messaging_database.owner_url)
    # As if the database had been restored from yesterday.
    await owner.execute("DELETE FROM messages WHERE dialog_id = $1", uuid.UUID(dialog.id))
    await owner.execute("UPDATE dialogs SET seq = 1, message_no = 0 WHERE id = $1", uuid.UUID(dialog.id))
    await owner.close()
    assert await _refused(live, bob, device.resume) == "RESUME_TOKEN_AHEAD"


async def test_more_streams_than_allowed_are_refused_and_the_others_go_on(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    devices = [await live.device(ann).live() for _ in range(20)]
    assert await _refused(live, ann, "") == "TOO_MANY_STREAMS"
    await bob.say(dialog.id)
    for device in devices:
        await device.has(dialog.id, 2)
    await devices[0].close()

    async def there_is_room() -> bool:
        again = live.device(ann)
        with contextlib.suppress(AssertionError):
            await again.live()
        return again.is_live

    await until(there_is_room, True, within=20)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (
            Words(ref="x", send=Send(dialog_id=str(uuid.uuid4()), content=Content(text="a"))),
            "DIALOG_NOT_FOUND",
        ),
        (Words(ref="x", read=frame_pb2.ReadMark(message_id="A" * 32)), "MESSAGE_NOT_FOUND"),
        (Words(ref="x", typing=frame_pb2.TypingSignal(dialog_id=str(uuid.uuid4()))), "DIALOG_NOT_FOUND"),
        (Words(ref="x", ack=frame_pb2.Ack(resume="nonsense")), "RESUME_TOKEN_INVALID"),
    ],
)
async def test_a_frame_that_fails_is_answered_and_the_stream_goes_on(
    live: Chat, frame: Words, reason: str
) -> None:
    (ann,) = await live.people(1)
    talk = await live.talk(ann, name="laptop").greet().live()
    talk.say(frame)
    assert (await talk.reply("x")).reason == reason
    talk.say(Words(ref="y", ping=frame_pb2.Ping()))
    assert (await talk.reply("y")).reason == ""


async def test_a_stranger_cannot_write_and_the_members_hear_nothing(live: Chat) -> None:
    ann, bob, eve = await live.people(3)
    dialog, other = await ann.direct(bob), await ann.direct(eve)
    there = await ann.say(other.id)
    device = await live.device(bob).live()
    stranger = await live.talk(eve).greet().live()
    stranger.say(Words(ref="1", send=Send(dialog_id=dialog.id, content=Content(text="a"))))
    assert (await stranger.reply("1")).reason == "DIALOG_NOT_FOUND"
    talk = await live.talk(bob).greet().live()
    talk.say(Words(ref="2", send=Send(dialog_id=dialog.id, content=Content(text="a"), reply_to=there.id)))
    assert (await talk.reply("2")).reason == "REPLY_NOT_FOUND"
    await ann.BlockUser(pb.BlockUserRequest(user_id=bob.id))
    talk.say(Words(ref="3", send=Send(dialog_id=dialog.id, content=Content(text="a"))))
    assert (await talk.reply("3")).reason == "BLOCKED"
    assert device.seqs(dialog.id) == []


@pytest.mark.parametrize(
    "frame",
    [
        Words(hello=frame_pb2.Hello()),
        Words(),
        Words(send=Send(dialog_id=str(uuid.uuid4()), content=Content(text="a" * 8193))),
        Words(send=Send(dialog_id="no uuid", content=Content(text="a"))),
        Words(ref="r" * 65, ping=frame_pb2.Ping()),
        b"\x0a\x02\xff\xfe",
        b"\xff\xff\xff\xff",
        b"\x0a" + b"\xff" * 1000,
    ],
)
async def test_a_frame_that_cannot_be_taken_ends_the_stream(live: Chat, frame: Any) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    bystander = await live.device(bob).live()
    talk = await live.talk(ann, raw=True).greet().live()
    talk.say(frame)
    end = await talk.ends()
    assert end is not None
    assert (end.reason, end.retry_after_ms) == ("FRAME_INVALID", 0)
    talk.say(Words(ref="late", ping=frame_pb2.Ping()))
    await ann.say(dialog.id)
    await bystander.has(dialog.id, 2)
    assert not talk.all("replies")


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xff\xff\xff",
        b"\x0a\x02\xff\xfe",
        Words(),
        Words(hello=frame_pb2.Hello(device_id="a phone")),
        Words(send=Send(dialog_id=str(uuid.uuid4()), content=Content(text="a" * 8193))),
        # A hello and a field that nobody knows.
        b"\x12\x00" + b"\xfa\x01\x80\x80\x10" + b"x" * (256 * 1024),
    ],
    ids=["no protobuf", "no UTF-8", "empty", "bad hello", "bad send", "too large"],
)
async def test_a_bad_first_frame_begins_no_stream(live: Chat, frame: Any) -> None:
    (ann,) = await live.people(1)
    talk = live.talk(ann, raw=True)
    talk.say(frame)
    await talk.ends()
    assert talk.error is not None
    assert (reason_of(talk.error), talk.frames) == ("FRAME_INVALID", [])
    assert uuid.UUID(ann.id) not in live.replicas[0].hub.people


async def test_what_is_said_after_the_end_is_not_done(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    bystander = await live.device(bob).live()
    talk = await live.talk(ann).greet().live()
    talk.say(Words(hello=frame_pb2.Hello()))
    for _ in range(20):
        talk.say(Words(ref="late", send=Send(dialog_id=dialog.id, content=Content(text="late"))))
    end = await talk.ends()
    assert end is not None
    assert end.reason == "FRAME_INVALID"
    await ann.say(dialog.id, "next")
    await bystander.has(dialog.id, 2)
    assert [event.message_created.content.text for event in bystander.events(dialog.id)] == ["next"]
    assert not talk.all("replies")


async def test_a_flood_of_frames_ends_the_stream(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    bystander = await live.device(bob).live()
    # Tests multiply the limit; as it is without that.
    live.replicas[0].desk.frames_per_second = 200
    talk = await live.talk(ann).greet().live()
    for _ in range(1000):
        talk.say(Words(ping=frame_pb2.Ping()))
    end = await talk.ends()
    assert end is not None
    assert end.reason == "FRAME_FLOOD"
    live.replicas[0].desk.frames_per_second = 2_000_000
    await ann.say(dialog.id)
    await bystander.has(dialog.id, 2)


async def test_streams_end_when_their_session_or_token_does(live: Chat) -> None:
    (ann,) = await live.people(1)
    session = str(uuid.uuid4())
    device = await live.device(ann, token=live.minter.token(ann.id, sid=session)).live()
    other = await live.device(ann).live()
    live.replicas[0].running.revocations.listeners[0](session)
    end = await device.ends(within=1)
    assert end is not None
    assert (end.reason, end.retry_after_ms) == ("SESSION_ENDED", 0)
    # Tokens are believed a few seconds longer than they say: clocks differ.
    brief = await live.device(ann, token=live.minter.token(ann.id, exp=int(time.time()) - 3)).live()
    end = await brief.ends()
    assert end is not None
    assert end.reason == "TOKEN_EXPIRED"
    assert other.end is None
