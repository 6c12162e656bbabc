"""Messages on a real database, behind the production chain: written, listed, changed, deleted."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.messaging.v1.message_pb2 import Content
from tests.support.chat import Recorder, Talkers
from tests.support.errors import reason


async def test_messages_of_a_dialog_are_numbered_without_gaps_in_the_order_of_their_sender(
    people: Talkers, heard: Recorder
) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    sent = await asyncio.gather(*(one.say(dialog.id, f"{number}") for number in range(200)))
    assert sorted(message.seq for message in sent) == list(range(2, 202))
    events = heard.of(dialog.id)
    assert [event.seq for event in events] == list(range(1, 202))
    assert [event.message_created.id for event in events[1:]] == [
        message.id for message in sorted(sent, key=lambda message: message.seq)
    ]
    shown = await other.history(dialog.id)
    assert [message.seq for message in shown] == list(range(102, 202))


async def test_a_message_is_answered_as_it_is_listed_and_told(people: Talkers, heard: Recorder) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    first = await one.say(dialog.id, "first")
    files = [str(uuid.uuid4()) for _ in range(3)]
    made = await other.say(
        dialog.id, "ก็ 🎉", reply_to=first.id, file_ids=files, mentions=[one.id], client_message_id="a:1"
    )
    assert (made.reply_to, made.file_ids, made.mentions) == (first.id, files, [one.id])
    assert (made.sender_id, made.type, made.client_message_id) == (other.id, "text", "a:1")
    assert (await one.history(dialog.id))[-1] == made
    assert await one.GetMessage(pb.GetMessageRequest(id=made.id)) == made
    assert heard.of(dialog.id)[-1].message_created == made


async def test_stamps_never_go_back(people: Talkers) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    await asyncio.gather(*(who.say(dialog.id) for who in (one, other) * 50))
    stamps = [message.created_at.ToNanoseconds() for message in await one.history(dialog.id)]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("times", [1, 30])
async def test_the_same_client_message_id_is_one_message(people: Talkers, times: int) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    first = [await one.say(dialog.id, "a", client_message_id="x")]
    more = await asyncio.gather(
        *(one.say(dialog.id, "a", client_message_id="x") for _ in range(times)),
        *(one.say(dialog.id, "b", client_message_id="y") for _ in range(times)),
    )
    assert {message.SerializeToString(deterministic=True) for message in first + more[:times]} == {
        first[0].SerializeToString(deterministic=True)
    }
    assert len({message.id for message in more[times:]}) == 1
    assert len(await one.history(dialog.id)) == 2
    assert await reason(one.say(dialog.id, "c", client_message_id="x")) == "CLIENT_MESSAGE_ID_REUSED"
    # Another sender and another dialog have ids of their own.
    assert (await other.say(dialog.id, "c", client_message_id="x")).id != first[0].id
    assert (await one.say((await one.group(other)).id, "c", client_message_id="x")).seq == 2
