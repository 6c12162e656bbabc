"""Blocks, reports, receipts, typing, and what other services ask of messaging."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from sampan.messaging.v1 import messaging_internal_service_pb2 as internal
from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.messaging.v1.messaging_internal_service_pb2_grpc import MessagingInternalServiceStub
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.chat import Recorder, Talker, Talkers
from tests.support.errors import reason
from tests.support.mesh import channel_as


@pytest.fixture
async def commerce(messaging: tuple[App, str], pki: Pki) -> AsyncIterator[MessagingInternalServiceStub]:
    async with channel_as("commerce", messaging[1], "messaging", pki) as channel:
        yield MessagingInternalServiceStub(channel)


@pytest.fixture
async def presence(messaging: tuple[App, str], pki: Pki) -> AsyncIterator[MessagingInternalServiceStub]:
    async with channel_as("presence", messaging[1], "messaging", pki) as channel:
        yield MessagingInternalServiceStub(channel)


def block(who: Talker, whom: Talker) -> pb.BlockUserRequest:
    return who.BlockUser(pb.BlockUserRequest(user_id=whom.id))  # type: ignore[no-any-return]


async def test_a_block_keeps_both_from_writing_to_each_other_until_it_is_taken_back(people: Talkers) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    said = await one.say(dialog.id)
    theirs = await other.say(dialog.id)
    await block(one, other)
    for who, message in ((one, said), (other, theirs)):
        assert await reason(who.say(dialog.id)) == "BLOCKED"
        assert await reason(who.edit(message.id, "x")) == "BLOCKED"
        assert await reason(who.AddReaction(pb.AddReactionRequest(id=said.id, emoji="👍"))) == "BLOCKED"
        assert await reason(who.SendTyping(pb.SendTypingRequest(dialog_id=dialog.id))) == "BLOCKED"
        assert await reason(who.group(other if who is one else one)) == "BLOCKED"
        # What was said can be read and taken back, and the dialog is still there.
        assert len(await who.history(dialog.id)) == 2
        assert (await who.direct(other if who is one else one)).id == dialog.id
    await one.DeleteMessage(pb.DeleteMessageRequest(id=said.id))
    await one.UnblockUser(pb.UnblockUserRequest(user_id=other.id))
    await one.UnblockUser(pb.UnblockUserRequest(user_id=other.id))
    assert await reason(other.say(dialog.id)) == ""


async def test_a_block_does_not_reach_into_groups_but_keeps_from_adding(people: Talkers) -> None:
    one, other, third = await people.some(3)
    shared = await third.group(one, other)
    await block(one, other)
    assert await reason(other.say(shared.id)) == ""
    mine = await other.group(third)
    add = pb.AddMemberRequest(dialog_id=mine.id, user_id=one.id)
    assert await reason(other.AddMember(add)) == "BLOCKED"
    assert await reason(other.direct(one)) == "BLOCKED"
    assert await reason(one.direct(other)) == "BLOCKED"


async def test_blocks_are_listed_newest_first(people: Talkers) -> None:
    one, *others = await people.some(6)
    made = [await block(one, other) for other in others]
    assert await block(one, others[0]) == made[0]
    found, token = [], ""
    while True:
        page = await one.ListBlocks(pb.ListBlocksRequest(limit=2, page_token=token))
        found += page.blocks
        token = page.next_page_token
        if not page.has_more:
            break
    assert found == made[::-1]
    assert not (await others[0].ListBlocks(pb.ListBlocksRequest())).blocks
    assert await reason(block(one, one)) == "INVALID_ARGUMENT"
    unknown = pb.BlockUserRequest(user_id=str(uuid.uuid4()))
    assert await reason(one.BlockUser(unknown)) == "USER_NOT_FOUND"


async def test_reading_never_goes_back_and_is_told_once(people: Talkers, heard: Recorder) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    said = [await one.say(dialog.id, f"{n}") for n in range(5)]
    before = len(heard.receipts)
    first = await other.read(said[3].id)
    assert (first.dialog_id, first.read_seq, first.unread_count) == (dialog.id, said[3].seq, 1)
    for message in (said[1], said[3]):
        again = await other.read(message.id)
        assert again == first
    assert heard.receipts[before:] == [(dialog.id, other.id, said[3].seq, 1, True)]
    seen = await one.see(dialog.id)
    assert {m.user_id: m.read_seq for m in seen.members} == {one.id: said[4].seq, other.id: said[3].seq}
    await asyncio.gather(*(other.read(message.id) for message in said * 4))
    assert (await other.see(dialog.id)).read_seq == said[4].seq


async def test_in_large_dialogs_nobody_sees_how_far_others_have_read(
    people: Talkers, heard: Recorder
) -> None:
    one, *others = await people.some(101)
    dialog = await one.group(*others)
    said = await one.say(dialog.id)
    await others[0].read(said.id)
    assert heard.receipts[-1] == (dialog.id, others[0].id, said.seq, 0, False)
    seen = await one.see(dialog.id)
    assert (seen.member_count, len(seen.members)) == (101, 100)
    assert {member.read_seq for member in seen.members} == {0}
    page = await one.ListMembers(pb.ListMembersRequest(dialog_id=dialog.id, limit=100))
    assert {member.read_seq for member in page.members} == {0}
    assert (await others[0].see(dialog.id)).read_seq == said.seq


async def test_typing_is_told(people: Talkers, heard: Recorder) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    await one.SendTyping(pb.SendTypingRequest(dialog_id=dialog.id))
    assert heard.writing[-1] == (dialog.id, one.id)


async def test_a_report_keeps_what_was_said_and_is_made_once(people: Talkers) -> None:
    one, other = await people.some(2)
    admin = await people.new(roles=["admin"])
    dialog = await one.direct(other)
    message = await one.say(dialog.id, "buy now")
    request = pb.ReportMessageRequest(id=message.id, category="spam", comment="again")
    made = await other.ReportMessage(request)
    assert await other.ReportMessage(request) == made
    await one.DeleteMessage(pb.DeleteMessageRequest(id=message.id))
    page = await admin.ListReports(pb.ListReportsRequest(limit=1))
    (report,) = page.reports
    assert (report.id, report.message_id, report.sender_id) == (made.id, message.id, one.id)
    assert (report.reporter_id, report.category, report.comment) == (other.id, "spam", "again")
    assert report.text == "buy now"
    assert await reason(other.ListReports(pb.ListReportsRequest())) == "PERMISSION_DENIED"
    wrong = pb.ReportMessageRequest(id=message.id, category="dull")
    assert await reason(other.ReportMessage(wrong)) == "INVALID_ARGUMENT"


def notice(one: Talker, other: Talker, key: str, text: str = "paid 5.00") -> internal.PostNoticeRequest:
    return internal.PostNoticeRequest(
        sender_id=one.id,
        recipient_id=other.id,
        type="order",
        text=text,
        attributes={"amount": "500", "currency": "THB"},
        client_message_id=key,
    )


async def test_a_notice_stands_in_the_direct_dialog_once_whatever_is_blocked(
    people: Talkers, commerce: MessagingInternalServiceStub, heard: Recorder
) -> None:
    one, other = await people.some(2)
    await block(other, one)
    made = await asyncio.gather(*(commerce.PostNotice(notice(one, other, "t1")) for _ in range(20)))
    assert len({(of.dialog_id, of.message_id) for of in made}) == 1
    shown = await other.GetMessage(pb.GetMessageRequest(id=made[0].message_id))
    assert (shown.type, shown.content.text, shown.sender_id) == ("order", "paid 5.00", one.id)
    assert dict(shown.content.attributes) == {"amount": "500", "currency": "THB"}
    assert heard.of(made[0].dialog_id)[-1].message_created == shown
    assert await reason(commerce.PostNotice(notice(one, other, "t1", "x"))) == "CLIENT_MESSAGE_ID_REUSED"
    assert await reason(commerce.PostNotice(notice(one, one, "t2"))) == "INVALID_ARGUMENT"
    # It tells of something that has happened: nobody changes it, and for its sender it is not unread.
    assert await reason(one.edit(shown.id, "paid 9.00")) == "PERMISSION_DENIED"
    delete = pb.DeleteMessageRequest(id=shown.id)
    assert await reason(one.DeleteMessage(delete)) == "PERMISSION_DENIED"
    assert ((await one.see(made[0].dialog_id)).unread_count) == 0
    assert ((await other.see(made[0].dialog_id)).unread_count) == 1


async def test_a_notice_marks_nothing_as_read(
    people: Talkers, commerce: MessagingInternalServiceStub
) -> None:
    one, other = await people.some(2)
    dialog = await one.direct(other)
    await other.say(dialog.id)
    await commerce.PostNotice(notice(one, other, "t1"))
    seen = await one.see(dialog.id)
    assert (seen.read_seq, seen.unread_count) == (0, 1)


@dataclasses.dataclass(frozen=True)
class Channels:
    """Channels of one workspace, as its service makes them."""

    stub: MessagingInternalServiceStub
    workspace_id: str

    async def make(self, owner: Talker, *members: Talker) -> str:
        request = internal.CreateChannelRequest(
            dialog_id=str(uuid.uuid4()),
            workspace_id=self.workspace_id,
            title="general",
            description="all of it",
            is_private=True,
            created_by=owner.id,
            members=[one.id for one in members],
        )
        for _ in range(2):
            await self.stub.CreateChannel(request)
        return request.dialog_id


@pytest.fixture
def channels(people: Talkers) -> Channels:
    return Channels(people.internal, str(uuid.uuid4()))


async def test_a_channel_is_a_dialog_of_its_workspace(
    people: Talkers, channels: Channels, heard: Recorder
) -> None:
    owner, member, late = await people.some(3)
    channel = await channels.make(owner, member)
    seen = await member.see(channel)
    assert (seen.id, seen.kind, seen.title, seen.is_private) == (channel, "channel", "general", True)
    assert (seen.workspace_id, seen.role, seen.member_count) == (channels.workspace_id, "member", 2)
    said = await owner.say(channel)
    for _ in range(2):
        await channels.stub.AddToChannel(
            internal.AddToChannelRequest(dialog_id=channel, user_id=late.id, actor_id=late.id)
        )
    # Who joins a channel sees all of it, but has nothing unread.
    assert await late.history(channel) == [said]
    assert (await late.see(channel)).unread_count == 0
    for _ in range(2):
        await channels.stub.UpdateChannel(
            internal.UpdateChannelRequest(dialog_id=channel, actor_id=owner.id, title="new", is_private=False)
        )
    seen = await late.see(channel)
    assert (seen.title, seen.description, seen.is_private, seen.last_seq) == ("new", "", False, 4)
    assert await reason(owner.UpdateDialog(pb.UpdateDialogRequest(dialog_id=channel, title="x"))) == (
        "DIALOG_KIND"
    )
    changes = [event.WhichOneof("change") for event in heard.of(channel)]
    assert changes == ["dialog_created", "message_created", "member_added", "dialog_updated"]


async def test_people_leave_one_channel_or_all_of_a_workspace(
    people: Talkers, channels: Channels, heard: Recorder
) -> None:
    owner, member = await people.some(2)
    made = [await channels.make(owner, member) for _ in range(3)]
    elsewhere = await Channels(channels.stub, str(uuid.uuid4())).make(owner, member)
    assert await reason(member.LeaveDialog(pb.LeaveDialogRequest(dialog_id=made[2]))) == "DIALOG_KIND"
    one = internal.RemoveFromChannelsRequest(
        workspace_id=channels.workspace_id, user_id=member.id, actor_id=owner.id, dialog_id=made[0]
    )
    for _ in range(2):
        await channels.stub.RemoveFromChannels(one)
    assert await reason(member.see(made[0])) == "DIALOG_NOT_FOUND"
    assert await reason(member.see(made[1])) == ""
    one.dialog_id = ""
    for _ in range(2):
        await channels.stub.RemoveFromChannels(one)
    assert await reason(member.see(made[1])) == "DIALOG_NOT_FOUND"
    assert await reason(member.see(elsewhere)) == ""
    assert {one[:2] for one in heard.went[-2:]} == {(made[1], member.id), (made[2], member.id)}


async def test_nobody_is_in_a_closed_channel(people: Talkers, channels: Channels, heard: Recorder) -> None:
    owner, member = await people.some(2)
    channel = await channels.make(owner, member)
    await owner.say(channel)
    for _ in range(2):
        await channels.stub.DeleteChannel(internal.DeleteChannelRequest(dialog_id=channel, actor_id=owner.id))
    for who in (owner, member):
        assert await reason(who.say(channel)) == "DIALOG_NOT_FOUND"
        assert await reason(who.see(channel)) == "DIALOG_NOT_FOUND"
        assert (channel, who.id, 2) in heard.went
    add = internal.AddToChannelRequest(dialog_id=channel, user_id=owner.id, actor_id=owner.id)
    assert await reason(channels.stub.AddToChannel(add)) == "DIALOG_NOT_FOUND"
    await channels.make(owner)
    assert (await owner.ListDialogs(pb.ListDialogsRequest())).total == 1


async def test_contacts_share_a_dialog_and_have_not_blocked(
    people: Talkers, presence: MessagingInternalServiceStub
) -> None:
    one, friend, blocker, blocked, former, stranger = them = await people.some(6)
    await one.direct(friend)
    group = await one.group(blocker, blocked, former)
    await former.LeaveDialog(pb.LeaveDialogRequest(dialog_id=group.id))
    await block(blocker, one)
    await block(one, blocked)
    request = internal.FilterContactsRequest(user_id=one.id, others=[other.id for other in them[1:]] * 2)
    found = await presence.FilterContacts(request)
    assert sorted(found.user_ids) == sorted([friend.id, blocked.id])
    assert stranger.id not in found.user_ids


async def test_the_running_role_cannot_change_the_log(
    people: Talkers, messaging_database: object, messaging_owner: asyncpg.Connection
) -> None:
    connection = await asyncpg.connect(messaging_database.runtime_url)  # type: ignore[attr-defined]
    try:
        for statement in (
            "DELETE FROM messages",
            "DELETE FROM changes",
            "UPDATE changes SET payload = ''",
            "UPDATE messages SET sender_id = dialog_id",
            "UPDATE messages SET seq = 1",
            "UPDATE edits SET text = ''",
            "DELETE FROM edits",
            "DELETE FROM reports",
            "INSERT INTO spent_ids VALUES (gen_random_uuid(), gen_random_uuid(), 'x', 1)",
            "TRUNCATE messages",
            "DELETE FROM members",
            "DELETE FROM dialogs",
            "UPDATE dialogs SET kind = 2",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        one, other = await people.some(2)
        dialog = await one.direct(other)
        message = await one.say(dialog.id)
        with pytest.raises(asyncpg.RaiseError):
            await connection.execute("SELECT erase_message($1, $2)", uuid.UUID(dialog.id), message.seq)
    finally:
        await connection.close()
