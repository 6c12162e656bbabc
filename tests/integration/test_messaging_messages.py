"""Messages on a real database, behind the production chain: written, listed, changed, deleted."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from typing import Any

import asyncpg
import pytest

from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.messaging.v1.message_pb2 import Content, Payment
from tests.support.chat import Recorder, Talker, Talkers
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


async def test_without_an_id_the_request_id_counts_and_else_each_send_is_a_message(people: Talkers) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    request_id = str(uuid.uuid4())
    ids = [(await one.say(dialog.id, "a", request_id=request_id)).id for _ in range(3)]
    assert len(set(ids)) == 1
    assert await reason(one.say(dialog.id, "b", request_id=request_id)) == "CLIENT_MESSAGE_ID_REUSED"
    assert (await one.say(dialog.id, "a")).id != (await one.say(dialog.id, "a")).id


async def test_a_repeat_is_answered_with_the_message_as_it_is_now(people: Talkers) -> None:
    one, other = await people.some(2)
    dialog = await one.group(other)
    made = await one.say(dialog.id, "a", client_message_id="x")
    edited = await one.edit(made.id, "b")
    assert await one.say(dialog.id, "a", client_message_id="x") == edited
    await one.DeleteMessage(pb.DeleteMessageRequest(id=made.id))
    again = await one.say(dialog.id, "a", client_message_id="x")
    assert (again.id, again.content.text, again.HasField("deleted_at")) == (made.id, "", True)
    # Also for somebody who is not in the dialog any more.
    await one.LeaveDialog(pb.LeaveDialogRequest(dialog_id=dialog.id))
    assert (await one.say(dialog.id, "a", client_message_id="x")).id == made.id
    assert await reason(one.say(dialog.id, "a", client_message_id="y")) == "DIALOG_NOT_FOUND"


async def test_threads_count_their_replies_and_have_one_root(people: Talkers) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    root = await one.say(dialog.id, "root")
    replies = [await other.say(dialog.id, f"{number}", thread_id=root.id) for number in range(3)]
    deep = await one.say(dialog.id, "deep", thread_id=replies[1].id, reply_to=replies[1].id)
    assert {message.thread_id for message in [*replies, deep]} == {root.id}
    assert (await one.GetMessage(pb.GetMessageRequest(id=root.id))).reply_count == 4
    await other.DeleteMessage(pb.DeleteMessageRequest(id=replies[0].id))
    assert (await one.GetMessage(pb.GetMessageRequest(id=root.id))).reply_count == 3
    for of in (root, deep):
        shown = await one.history(dialog.id, thread_id=of.id)
        assert [message.id for message in shown] == [one.id for one in [*replies, deep]]
    assert len(await one.history(dialog.id)) == 5


async def test_what_is_answered_must_be_a_message_of_this_dialog_that_one_may_see(people: Talkers) -> None:
    one, other, late = await people.some(3)
    dialog, elsewhere = await one.group(other), await one.direct(other)
    early, foreign = await one.say(dialog.id), await one.say(elsewhere.id)
    nowhere = foreign.id[:-2] + "_w"
    for wrong in (foreign.id, nowhere):
        for field in ("reply_to", "thread_id"):
            assert await reason(one.say(dialog.id, **{field: wrong})) == "REPLY_NOT_FOUND"
        assert await reason(one.history(dialog.id, thread_id=wrong)) == "REPLY_NOT_FOUND"
    # The event that made the dialog is none, and what was said before one came is not to be seen.
    created = early.id[:-1] + "B"
    assert await reason(one.say(dialog.id, reply_to=created)) == "REPLY_NOT_FOUND"
    await one.AddMember(pb.AddMemberRequest(dialog_id=dialog.id, user_id=late.id))
    assert await reason(late.say(dialog.id, reply_to=early.id)) == "REPLY_NOT_FOUND"
    assert await reason(late.history(dialog.id, thread_id=early.id)) == "REPLY_NOT_FOUND"


async def test_paging_goes_both_ways_and_meets_every_message_once(people: Talkers) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    for number in range(23):
        await one.say(dialog.id, f"{number}")
        if number % 3 == 0:
            await other.AddReaction(
                pb.AddReactionRequest(id=(await one.history(dialog.id, limit=1))[0].id, emoji="👍")
            )
    every = await one.history(dialog.id)
    assert len(every) == 23

    async def page(**more: int) -> pb.ListMessagesResponse:
        request = pb.ListMessagesRequest(dialog_id=dialog.id, limit=5, **more)
        found: pb.ListMessagesResponse = await one.ListMessages(request)
        return found

    back = await page()
    found = list(back.messages)
    while back.has_more:
        back = await page(before_seq=found[0].seq)
        found = [*back.messages, *found]
    assert found == every
    forth = await page(after_seq=1)
    found = list(forth.messages)
    while forth.has_more:
        forth = await page(after_seq=found[-1].seq)
        found += forth.messages
    assert found == every
    between = await page(after_seq=every[3].seq, before_seq=every[6].seq)
    assert (list(between.messages), between.has_more) == (every[4:6], False)
    assert len((await one.ListMessages(pb.ListMessagesRequest(dialog_id=dialog.id))).messages) == 10


async def test_an_edit_keeps_what_was_said_and_tells_it_live_but_not_in_the_log(
    people: Talkers, heard: Recorder, messaging_owner: asyncpg.Connection
) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    made = await one.say(dialog.id, "first")
    for text in ("second", "a secret", "third"):
        last = await one.edit(made.id, text)
    assert (last.content.text, last.seq, last.HasField("edited_at")) == ("third", made.seq, True)
    assert await other.GetMessage(pb.GetMessageRequest(id=made.id)) == last
    edits = (await other.ListEdits(pb.ListEditsRequest(id=made.id))).edits
    assert [edit.text for edit in edits] == ["a secret", "second", "first"]
    event = heard.of(dialog.id)[-1]
    assert (event.seq, event.message_edited.message_id) == (5, made.id)
    assert event.message_edited.content.text == "third"
    # The same again is no change.
    assert await one.edit(made.id, "third") == last
    assert heard.of(dialog.id)[-1].seq == 5
    await one.DeleteMessage(pb.DeleteMessageRequest(id=made.id))
    assert await reason(one.ListEdits(pb.ListEditsRequest(id=made.id))) == "MESSAGE_DELETED"
    assert await reason(one.edit(made.id, "fourth")) == "MESSAGE_DELETED"
    dialog_id = uuid.UUID(dialog.id)
    left = await messaging_owner.fetch(
        "SELECT payload::text FROM changes WHERE dialog_id = $1 UNION ALL "
        "SELECT text FROM edits WHERE dialog_id = $1 UNION ALL "
        "SELECT text FROM messages WHERE dialog_id = $1",
        dialog_id,
    )
    assert b"a secret".hex() not in str(left)
    assert "third" not in str(left)
    assert b"third".hex() not in str(left)


async def test_who_may_edit_and_delete(people: Talkers, heard: Recorder) -> None:
    owner, admin, member, stranger = await people.some(4)
    dialog = await owner.group(admin, member)
    await owner.SetMemberRole(pb.SetMemberRoleRequest(dialog_id=dialog.id, user_id=admin.id, role="admin"))
    said = {one.id: await one.say(dialog.id) for one in (owner, admin, member)}

    def delete(who: Talker, of: Talker) -> Awaitable[str]:
        return reason(who.DeleteMessage(pb.DeleteMessageRequest(id=said[of.id].id)))

    for one in (owner, admin):
        assert await reason(one.edit(said[member.id].id, "x")) == "PERMISSION_DENIED"
    assert await reason(stranger.edit(said[member.id].id, "x")) == "MESSAGE_NOT_FOUND"
    assert await delete(stranger, owner) == "MESSAGE_NOT_FOUND"
    assert await delete(member, owner) == "PERMISSION_DENIED"
    assert [await delete(admin, owner), await delete(owner, member), await delete(admin, admin)] == [""] * 3
    before = len(heard.of(dialog.id))
    assert await delete(admin, owner) == ""
    assert len(heard.of(dialog.id)) == before
    shown = await member.history(dialog.id)
    assert all(message.HasField("deleted_at") and not message.content.text for message in shown)
    deleted = [event for event in heard.of(dialog.id) if event.HasField("message_deleted")]
    assert [event.message_deleted.message_id for event in deleted] == [
        said[one.id].id for one in (owner, member, admin)
    ]


async def test_reactions_are_once_a_person_and_at_most_twenty_kinds(people: Talkers, heard: Recorder) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    message = await one.say(dialog.id)

    def react(who: Talker, emoji: str) -> Any:
        return who.AddReaction(pb.AddReactionRequest(id=message.id, emoji=emoji))

    await asyncio.gather(*(react(one, "👍") for _ in range(10)))
    shown = await react(other, "👍")
    assert [(of.emoji, of.count, of.mine) for of in shown.reactions] == [("👍", 2, True)]
    await other.RemoveReaction(pb.RemoveReactionRequest(id=message.id, emoji="👍"))
    await other.RemoveReaction(pb.RemoveReactionRequest(id=message.id, emoji="👍"))
    shown = await other.GetMessage(pb.GetMessageRequest(id=message.id))
    assert [(of.emoji, of.count, of.mine) for of in shown.reactions] == [("👍", 1, False)]
    told = [event.WhichOneof("change") for event in heard.of(dialog.id)[2:]]
    assert told == ["reaction_added", "reaction_added", "reaction_removed"]
    for number in range(19):
        shown = await react(one, chr(0x1F600 + number))
    assert [of.emoji for of in shown.reactions] == ["👍", *(chr(0x1F600 + number) for number in range(19))]
    assert await reason(react(other, "🚀")) == "TOO_MANY_REACTIONS"
    assert await reason(react(other, "👍")) == ""
    assert (await one.see(dialog.id)).last_message.reactions[0].count == 2
    await one.DeleteMessage(pb.DeleteMessageRequest(id=message.id))
    assert await reason(react(one, "👍")) == "MESSAGE_DELETED"
    assert not (await one.history(dialog.id))[0].reactions


@pytest.mark.parametrize(
    "fields",
    [
        {"content": Content(text="")},
        {"content": Content(text=" \n\t")},
        {"content": Content(text="x" * 8193)},
        {"content": Content(text="x", attributes={"a": "b"})},
        {"content": Content(text="x", payment=Payment())},
        {"content": Content(text="x", payment=Payment(kind="send", amount=500, currency="THB"))},
        {"content": None},
        {"dialog_id": "1"},
        {"type": "payment"},
        {"client_message_id": "a b"},
        {"client_message_id": "x" * 65},
        {"reply_to": "x"},
        {"thread_id": "x" * 33},
        {"file_ids": ["1"]},
        {"file_ids": [str(uuid.UUID(int=n)) for n in range(11)]},
        {"mentions": [str(uuid.UUID(int=n)) for n in range(51)]},
        {"request_id": "1"},
        {"content": Content(text="a\0b")},
    ],
    # Some are made of chance, and every process must call them the same.
    ids="-".join,
)
async def test_a_message_that_breaks_a_rule_is_refused_and_leaves_nothing(
    people: Talkers, fields: dict[str, Any]
) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    request = pb.SendMessageRequest(**{"dialog_id": dialog.id, "content": Content(text="a"), **fields})
    assert await reason(one.SendMessage(request)) == "INVALID_ARGUMENT"
    assert await one.history(dialog.id) == []
    assert (await one.say(dialog.id)).seq == 2


async def test_texts_of_any_script_come_back_as_they_were(people: Talkers) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    texts = [
        "ภาษาไทย ก็",
        "Tiếng Việt",
        "😀" * 8192,
        "a\u202eb",
        "x" * 8192,
        "'; DROP TABLE messages; --",
        "{}",
    ]
    for text in texts:
        await one.say(dialog.id, text)
    assert [message.content.text for message in await other.history(dialog.id)] == texts


async def test_strangers_and_former_members_find_nothing(people: Talkers) -> None:
    one, other, stranger = await people.some(3)
    dialog = await one.group(other)
    message = await one.say(dialog.id)
    await other.LeaveDialog(pb.LeaveDialogRequest(dialog_id=dialog.id))
    for who in (other, stranger):
        assert await reason(who.say(dialog.id)) == "DIALOG_NOT_FOUND"
        assert await reason(who.say(dialog.id, reply_to=message.id)) == "DIALOG_NOT_FOUND"
        assert await reason(who.see(dialog.id)) == "DIALOG_NOT_FOUND"
        assert await reason(who.history(dialog.id)) == "DIALOG_NOT_FOUND"
        assert await reason(who.read(message.id)) == "MESSAGE_NOT_FOUND"
        assert await reason(who.GetMessage(pb.GetMessageRequest(id=message.id))) == "MESSAGE_NOT_FOUND"
        assert await reason(who.ListEdits(pb.ListEditsRequest(id=message.id))) == "MESSAGE_NOT_FOUND"
        assert await reason(who.AddReaction(pb.AddReactionRequest(id=message.id, emoji="👍"))) == (
            "MESSAGE_NOT_FOUND"
        )
        assert await reason(who.SendTyping(pb.SendTypingRequest(dialog_id=dialog.id))) == "DIALOG_NOT_FOUND"
        report = pb.ReportMessageRequest(id=message.id, category="spam")
        assert await reason(who.ReportMessage(report)) == "MESSAGE_NOT_FOUND"
    unknown = str(uuid.uuid4())
    assert await reason(one.say(unknown)) == "DIALOG_NOT_FOUND"
