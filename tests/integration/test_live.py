"""Live delivery over gRPC: order, resume, several replicas, slow readers, and what clients do wrong."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.messaging.v1.frame_pb2 import ConnectRequest as Words
from sampan.messaging.v1.frame_pb2 import Send
from sampan.messaging.v1.message_pb2 import Content
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.bus import NatsServer, nats_server
from tests.support.databases import Clone
from tests.support.live import Chat, Device, chat
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def nats(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    """A NATS server of this module's own."""
    async with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
async def live(
    messaging_database: Clone,
    identity: tuple[App, str],
    identity_database: Clone,
    pki: Pki,
    nats: NatsServer,
) -> AsyncIterator[Chat]:
    """Two replicas of messaging."""
    async with chat(messaging_database, identity, identity_database.owner_url, pki, nats) as found:
        yield found


async def test_devices_on_different_replicas_see_the_same_order(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    devices = [live.device(ann, 0), live.device(ann, 1), live.device(bob, 1)]
    for device in devices:
        await device.live()
    sent = [await asyncio.gather(ann.say(dialog.id, "a"), bob.say(dialog.id, "b")) for _ in range(10)]
    last = max(message.seq for pair in sent for message in pair)
    for device in devices:
        await device.has(dialog.id, last)
        assert device.seqs(dialog.id) == list(range(2, last + 1))
    texts = [[event.message_created.content.text for event in one.events(dialog.id)] for one in devices]
    assert texts[0] == texts[1] == texts[2]


async def test_a_device_that_was_away_gets_exactly_what_it_missed(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = await live.device(bob).live()
    await ann.say(dialog.id, "before")
    await device.has(dialog.id, 2)
    await device.close()
    # A thousand are missed in test_live_doors.
    for _ in range(4):
        await asyncio.gather(*(ann.say(dialog.id) for _ in range(50)))
    back = await live.device(bob, 1, resume=device.resume).live()
    assert back.seqs(dialog.id) == list(range(3, 203))
    await ann.say(dialog.id, "after")
    await back.has(dialog.id, 203)
    assert back.seqs(dialog.id) == list(range(3, 204))


async def test_a_device_comes_back_by_its_name_to_where_it_acknowledged(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = await live.device(bob, name="phone").live()
    await ann.say(dialog.id, "read")
    await device.has(dialog.id, 2)
    await bob.AckEvents(pb.AckEventsRequest(device_id="phone", resume=device.resume))
    await ann.say(dialog.id, "written, but not acknowledged")
    await device.has(dialog.id, 3)
    await device.close()
    await ann.say(dialog.id, "missed")
    back = await live.device(bob, 1, name="phone").live()
    assert back.seqs(dialog.id) == [3, 4]


async def test_nobody_learns_of_a_dialog_before_its_events(live: Chat) -> None:
    ann, bob = await live.people(2)
    device = await live.device(bob, 1).live()
    dialog = await ann.direct(bob)
    await ann.say(dialog.id, "hello")
    await device.has(dialog.id, 2)
    assert device.seqs(dialog.id) == [1, 2]
    assert [head.dialog_id for head in device.all("heads")] == [dialog.id]


async def test_who_is_removed_gets_the_removal_as_the_last_event(live: Chat) -> None:
    ann, bob, eve = await live.people(3)
    dialog = await ann.group(bob, eve)
    devices = [await live.device(eve, replica).live() for replica in (0, 1)]
    witness = await live.device(bob, 1).live()
    await ann.RemoveMember(pb.RemoveMemberRequest(dialog_id=dialog.id, user_id=eve.id))
    await ann.say(dialog.id, "among us")
    await witness.has(dialog.id, 3)
    for device in devices:
        await device.becomes(lambda device=device: any(head.left for head in device.all("heads")))
        assert device.seqs(dialog.id) == [2]


async def test_who_was_removed_while_away_gets_all_up_to_the_removal(live: Chat) -> None:
    ann, eve = await live.people(2)
    dialog = await ann.group(eve)
    device = await live.device(eve).live()
    await ann.say(dialog.id, "1")
    await device.has(dialog.id, 2)
    await device.close()
    await ann.say(dialog.id, "2")
    await ann.RemoveMember(pb.RemoveMemberRequest(dialog_id=dialog.id, user_id=eve.id))
    await ann.say(dialog.id, "3")
    back = await live.device(eve, 1, resume=device.resume).live()
    assert back.seqs(dialog.id) == [3, 4]
    assert [head.left for head in back.all("heads") if head.dialog_id == dialog.id] == [True]


async def test_who_comes_back_into_a_group_gets_what_follows(live: Chat) -> None:
    ann, eve = await live.people(2)
    dialog = await ann.group(eve)
    device = await live.device(eve, 1).live()
    await ann.RemoveMember(pb.RemoveMemberRequest(dialog_id=dialog.id, user_id=eve.id))
    await ann.say(dialog.id, "without her")
    await ann.AddMember(pb.AddMemberRequest(dialog_id=dialog.id, user_id=eve.id))
    await ann.say(dialog.id, "with her")
    await device.has(dialog.id, 5)
    assert device.seqs(dialog.id) == [2, 4, 5]


async def test_receipts_reach_the_own_devices_and_the_others(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    sender, reader = await live.device(ann, 0).live(), await live.device(bob, 1).live()
    first, _ = await ann.say(dialog.id, "1"), await ann.say(dialog.id, "2")
    await bob.read(first.id)

    def told(device: Device) -> list[tuple[str, int, int]]:
        return [
            (one.user_id, one.read_seq, one.unread_count)
            for one in device.all("receipts")
            if one.user_id == bob.id
        ]

    await sender.becomes(lambda: told(sender))
    await reader.becomes(lambda: told(reader))
    assert told(sender) == [(bob.id, 2, 0)]
    assert told(reader) == [(bob.id, 2, 1)]


async def test_typing_reaches_the_others_on_other_replicas(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = await live.device(bob, 1).live()
    await ann.SendTyping(pb.SendTypingRequest(dialog_id=dialog.id))
    await device.becomes(lambda: device.all("typing"))
    assert [(one.dialog_id, one.user_id) for one in device.all("typing")] == [(dialog.id, ann.id)]


async def test_a_stream_begins_with_heads(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    message = await ann.say(dialog.id)
    await ann.say(dialog.id)
    await bob.read(message.id)
    device = await live.device(bob).live()
    assert [(one.last_seq, one.read_seq, one.unread_count) for one in device.frames[0].heads] == [(3, 2, 1)]
    assert device.frames[0].resume


# Whether somebody waits for the end of this transaction.
_WAITS = """
SELECT count(*) > 0 FROM pg_locks
WHERE NOT granted AND locktype = 'transactionid' AND transactionid = pg_current_xact_id()::xid
"""


async def test_a_burst_comes_in_few_frames(live: Chat, messaging_owner: asyncpg.Connection) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = await live.device(bob).live()
    before = len(device.frames)
    async with messaging_owner.transaction():
        # Nothing is written in it for as long as this lasts: what comes meanwhile is written together.
        await messaging_owner.execute("SELECT FROM dialogs WHERE id = $1 FOR UPDATE", uuid.UUID(dialog.id))
        said = [asyncio.ensure_future(ann.say(dialog.id))]
        await until(lambda: messaging_owner.fetchval(_WAITS), True, within=20)
        said += [asyncio.ensure_future(ann.say(dialog.id)) for _ in range(100)]
        await until(live.replicas[0].waiting, 100, within=20)
    await asyncio.gather(*said)
    await device.has(dialog.id, 102)
    assert len(device.frames) - before < 10


async def test_an_edit_that_was_missed_shows_what_the_message_says_now(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    device = await live.device(bob).live()
    await device.close()
    message = await ann.say(dialog.id, "one")
    await ann.edit(message.id, "two")
    await ann.edit(message.id, "three")
    back = await live.device(bob, 1, resume=device.resume).live()
    created, *edits = back.events(dialog.id)
    assert created.message_created.content.text == "three"
    assert [one.message_edited.content.text for one in edits] == ["three", "three"]


async def test_frames_of_connect_do_what_the_methods_do(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    listener = await live.device(bob, 1).live()
    talk = await live.talk(ann, name="laptop").greet().live()
    send = Send(dialog_id=dialog.id, content=Content(text="hi"), client_message_id="c")
    talk.say(Words(ref="1", send=send))
    reply = await talk.reply("1")
    assert (reply.reason, reply.message.seq, reply.message.client_message_id) == ("", 2, "c")
    await listener.has(dialog.id, 2)
    message = listener.events(dialog.id)[0].message_created
    assert (message.id, message.content.text, message.sender_id) == (reply.message.id, "hi", ann.id)
    talk.say(Words(ref="2", typing=frame_pb2.TypingSignal(dialog_id=dialog.id)))
    talk.say(Words(ref="3", ack=frame_pb2.Ack(resume=talk.resume)))
    talk.say(Words(ref="4", read=frame_pb2.ReadMark(message_id=message.id)))
    talk.say(Words(ref="5", ping=frame_pb2.Ping()))
    assert [(await talk.reply(ref)).reason for ref in "2345"] == ["", "", "", ""]
    await listener.becomes(lambda: listener.all("typing"))
    await talk.becomes(lambda: any(frame.HasField("heartbeat") for frame in talk.frames))


async def test_connect_without_hello_is_live_from_its_first_frame(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    await ann.say(dialog.id, "before")
    talk = live.talk(bob)
    talk.say(Words(ref="1", ping=frame_pb2.Ping()))
    await talk.live()
    await ann.say(dialog.id, "after")
    await talk.has(dialog.id, 3)
    assert talk.seqs(dialog.id) == [3]


async def test_many_sends_of_one_stream_keep_their_order(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    talk = await live.talk(ann).greet().live()
    for number in range(500):
        talk.say(Words(send=Send(dialog_id=dialog.id, content=Content(text=str(number)))))
    await talk.has(dialog.id, 501)
    said = [event.message_created.content.text for event in talk.events(dialog.id)]
    assert said == [str(number) for number in range(500)]
    assert not talk.all("replies")
