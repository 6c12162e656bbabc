"""Live delivery from outside: every door tells the same events in the same order, also after being away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from tests.support import forgery
from tests.support.chat import Talker
from tests.support.live_doors import (
    DOORS,
    BinaryWebSocketLine,
    ConnectLine,
    GrpcLine,
    NdjsonLine,
    SseLine,
    WebSocketLine,
    opened,
)
from tests.support.live_lines import Edge, Line
from tests.support.signing import signing_key

# Seconds in which a stream ends, or a dialog on it, once that was decided.
WITHIN = 1.0
AWAY = 1000
SPEAKING = tuple(door for door in DOORS if door.speaks)


def at_every_door(edge: Edge, token: str, *, named: bool = False) -> list[Line]:
    """One device at each."""
    return [door(edge, token, name=f"at-{door.door}" if named else "") for door in DOORS]


def again(lines: Sequence[Line], *, by_token: bool) -> list[Line]:
    """The same devices, as they come back."""
    return [
        type(line)(line.edge, line.token, name=line.name, resume=line.resume if by_token else "")
        for line in lines
    ]


def texts(line: Line, dialog_id: str) -> list[str]:
    """What was written, in the order in which it came."""
    return [event.message_created.content.text for event in line.events(dialog_id)]


async def say_many(who: Talker, dialog_id: str, count: int) -> int:
    """Writes that many messages; the number of the last."""
    sent = []
    for at in range(0, count, 50):
        sent += await asyncio.gather(*(who.say(dialog_id, f"{at + one}") for one in range(50)))
    return max(message.seq for message in sent)


async def test_devices_of_two_people_on_three_doors_see_the_same_order(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    lines = [
        WebSocketLine(edge, ann.token, name="browser"),
        GrpcLine(edge, ann.token, name="phone"),
        SseLine(edge, bob.token, name="page"),
    ]
    async with opened(*lines):
        for _ in range(10):
            both = await asyncio.gather(ann.say(dialog.id, "a"), bob.say(dialog.id, "b"))
        last = max(message.seq for message in both)
        for line in lines:
            await line.has(dialog.id, last)
            assert line.seqs(dialog.id) == list(range(2, 22))
            assert texts(line, dialog.id) == texts(lines[0], dialog.id)


async def test_every_door_tells_the_same_events(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    lines = [*at_every_door(edge, ann.token), *at_every_door(edge, bob.token)]
    async with opened(*lines):
        dialog = await ann.group(bob, title="กลุ่ม")
        first = await ann.say(dialog.id, "สวัสดี \u0000 \U0001f600".replace("\u0000", '"\\'))
        await bob.say(dialog.id, "re", reply_to=first.id, thread_id=first.id)
        await ann.edit(first.id, "changed")
        await bob.AddReaction(pb.AddReactionRequest(id=first.id, emoji="👍"))
        await bob.RemoveReaction(pb.RemoveReactionRequest(id=first.id, emoji="👍"))
        await ann.UpdateDialog(pb.UpdateDialogRequest(dialog_id=dialog.id, title="new"))
        await ann.DeleteMessage(pb.DeleteMessageRequest(id=first.id))
        for line in lines:
            await line.has(dialog.id, 8)
        assert lines[0].seqs(dialog.id) == list(range(1, 9))
        for line in lines:
            assert line.events(dialog.id) == lines[0].events(dialog.id), line.door


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "application/x-ndjson"),
        ("application/json", "application/x-ndjson"),
        ("text/event-stream", "text/event-stream"),
    ],
)
async def test_a_stream_over_rest_says_in_which_form_it_is(edge: Edge, accept: str, media: str) -> None:
    bob = await edge.talker()
    headers = {"authorization": f"Bearer {bob.token}", "accept": accept}
    async with edge.http.stream("GET", "/v1/events", headers=headers) as response:
        assert (response.status_code, response.headers["content-type"]) == (200, media)
        assert await anext(response.aiter_lines())


async def test_who_was_away_for_a_thousand_messages_gets_exactly_them_by_token(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    lines = at_every_door(edge, bob.token)
    async with opened(*lines):
        await ann.say(dialog.id, "before")
        for line in lines:
            await line.has(dialog.id, 2)
    last = await say_many(ann, dialog.id, AWAY)
    assert last == 2 + AWAY
    back = again(lines, by_token=True)
    async with opened(*back):
        for line in back:
            assert line.seqs(dialog.id) == list(range(3, last + 1)), line.door
        await ann.say(dialog.id, "after")
        for line in back:
            await line.has(dialog.id, last + 1)
            assert line.seqs(dialog.id) == list(range(3, last + 2)), line.door
            assert texts(line, dialog.id) == texts(back[0], dialog.id)


async def test_who_was_away_gets_exactly_what_they_missed_by_the_device_s_name(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    lines = at_every_door(edge, bob.token, named=True)
    async with opened(*lines):
        await ann.say(dialog.id, "before")
        for line in lines:
            await line.has(dialog.id, 2)
            await acknowledge(line, bob)
    last = await say_many(ann, dialog.id, 100)
    back = again(lines, by_token=False)
    async with opened(*back):
        await ann.say(dialog.id, "after")
        for line in back:
            await line.has(dialog.id, last + 1)
            assert line.seqs(dialog.id) == list(range(3, last + 2)), line.door


async def acknowledge(line: Line, who: Talker) -> None:
    """Says that all has been worked through: over the stream, where one can."""
    if line.speaks:
        ack = frame_pb2.ConnectRequest(ref="ack", ack=frame_pb2.Ack(resume=line.resume))
        assert (await line.ask(ack)).reason == ""
    else:
        await who.AckEvents(pb.AckEventsRequest(device_id=line.name, resume=line.resume))


async def test_without_token_and_device_a_stream_is_live_from_now(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    await say_many(ann, dialog.id, 50)
    lines = at_every_door(edge, bob.token)
    async with opened(*lines):
        await ann.say(dialog.id, "now")
        for line in lines:
            await line.has(dialog.id, 52)
            assert line.seqs(dialog.id) == [52], line.door
            (head,) = line.all("heads")
            assert (head.dialog_id, head.last_seq, head.unread_count) == (dialog.id, 51, 50)


async def test_reading_and_writing_just_now_are_told_live(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    lines = at_every_door(edge, ann.token)
    async with opened(*lines):
        sent = await ann.say(dialog.id, "read this")
        await bob.SendTyping(pb.SendTypingRequest(dialog_id=dialog.id))
        await bob.read(sent.id)
        for line in lines:
            await line.becomes(lambda line=line: line.all("typing") and told(line, bob.id))
            assert (line.all("typing")[0].dialog_id, line.all("typing")[0].user_id) == (dialog.id, bob.id)
            assert told(line, bob.id) == [sent.seq], line.door


def told(line: Line, user_id: str) -> list[int]:
    """How far somebody has read, as often as it was told."""
    return [one.read_seq for one in line.all("receipts") if one.user_id == user_id]


@pytest.mark.parametrize("door", SPEAKING, ids=lambda door: door.door)
async def test_frames_of_the_client_do_what_calls_do(edge: Edge, door: type[Line]) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    theirs, other = door(edge, bob.token, name="mine"), NdjsonLine(edge, ann.token)
    async with opened(theirs, other):
        first = await ann.say(dialog.id, "hello")
        send = frame_pb2.Send(dialog_id=dialog.id, client_message_id="c1")
        send.content.text = "over the stream"
        done = await theirs.ask(frame_pb2.ConnectRequest(ref="1", send=send))
        assert (done.reason, done.message.seq, done.message.client_message_id) == ("", 3, "c1")
        same = await theirs.ask(frame_pb2.ConnectRequest(ref="2", send=send))
        assert (same.reason, same.message.id) == ("", done.message.id)
        typing = frame_pb2.TypingSignal(dialog_id=dialog.id)
        assert (await theirs.ask(frame_pb2.ConnectRequest(ref="3", typing=typing))).reason == ""
        read = frame_pb2.ReadMark(message_id=first.id)
        assert (await theirs.ask(frame_pb2.ConnectRequest(ref="4", read=read))).reason == ""
        assert (await theirs.ask(frame_pb2.ConnectRequest(ref="5", ping=frame_pb2.Ping()))).reason == ""
        await other.has(dialog.id, 3)
        await other.becomes(lambda: other.all("typing"))
        assert any(frame.HasField("heartbeat") for frame in theirs.frames)
        assert other.seqs(dialog.id) == theirs.seqs(dialog.id) == [2, 3]


async def test_who_joins_and_is_removed_learns_it_live_and_hears_nothing_after(edge: Edge) -> None:
    ann, bob, cat = [await edge.talker() for _ in range(3)]
    dialog = await ann.group(cat)
    other = await ann.direct(bob)
    await ann.say(dialog.id, "before bob")
    lines = at_every_door(edge, bob.token)
    async with opened(*lines):
        await ann.AddMember(pb.AddMemberRequest(dialog_id=dialog.id, user_id=bob.id))
        await ann.say(dialog.id, "hello bob")
        for line in lines:
            await line.has(dialog.id, 4)
            assert line.seqs(dialog.id) == [3, 4], line.door
            assert line.events(dialog.id)[0].member_added.user_id == bob.id
        await ann.RemoveMember(pb.RemoveMemberRequest(dialog_id=dialog.id, user_id=bob.id))
        removed_at = time.monotonic()
        for line in lines:
            await line.becomes(lambda line=line: dialog.id in parted(line))
        assert time.monotonic() - removed_at < WITHIN
        await ann.say(dialog.id, "without bob")
        marker = await ann.say(other.id, "only for bob")
        for line in lines:
            await line.has(other.id, marker.seq)
            assert line.seqs(dialog.id) == [3, 4, 5], line.door
            assert line.events(dialog.id)[-1].member_removed.user_id == bob.id
        kept = again(lines, by_token=True)
    await ann.say(dialog.id, "still without bob")
    async with opened(*kept):
        assert all(line.seqs(dialog.id) == [] for line in kept)


def parted(line: Line) -> set[str]:
    """Dialogs that it was told it is no longer in."""
    return {head.dialog_id for head in line.all("heads") if head.left}


async def test_signing_out_ends_the_streams_of_that_session_only(edge: Edge) -> None:
    person = await edge.clients.register()
    login = {"username": person.username, "password": person.password}
    second = (await edge.clients.rest.call("POST", "/v1/auth/login", login)).body["access_token"]
    lines, staying = at_every_door(edge, person.token), NdjsonLine(edge, second)
    async with opened(*lines, staying):
        done = await edge.clients.rest.call("POST", "/v1/auth/logout", {}, token=person.token)
        assert done.code in {200, 204}, done
        ended_at = time.monotonic()
        for line in lines:
            await line.becomes(lambda line=line: line.end is not None)
        assert time.monotonic() - ended_at < WITHIN
        for line in lines:
            end = await line.ends()
            assert end is not None
            assert (end.reason, end.retry_after_ms) == ("SESSION_ENDED", 0), line.door
        assert staying.end is None
        for line in again(lines, by_token=True):
            assert (await line.open().is_refused()).reason == "TOKEN_INVALID", line.door


async def test_a_stream_ends_with_its_token(edge: Edge) -> None:
    person = await edge.clients.register()
    key, kid = await signing_key(edge.stack)
    brief = forgery.resigned(key, kid, exp=int(time.time()) + 4)(person.token)
    lines = at_every_door(edge, brief)
    async with opened(*lines):
        ends = [await line.ends(15) for line in lines]
    assert [end.reason if end else None for end in ends] == ["TOKEN_EXPIRED"] * len(lines)


async def test_one_stream_too_many_is_refused_and_the_others_go_on(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    lines = [BinaryWebSocketLine(edge, bob.token) for _ in range(16)]
    async with opened(*lines):
        for line in at_every_door(edge, bob.token):
            assert (await line.open().is_refused()).reason == "TOO_MANY_STREAMS", line.door
        await ann.say(dialog.id)
        for line in lines:
            await line.has(dialog.id, 2)
    async with opened(ConnectLine(edge, ann.token)):
        pass


async def test_a_stream_with_nothing_to_say_shows_that_it_is_alive(edge: Edge) -> None:
    bob = await edge.talker()
    lines = at_every_door(edge, bob.token)
    async with opened(*lines):
        for line in lines:
            await line.becomes(lambda line=line: line.frames[-1].HasField("heartbeat"))
            assert line.frames[-1].heartbeat.at.seconds > 0
