"""Prepared requests for the RPCs of messaging that change something."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.messaging.v1.message_pb2 import Content
from tests.support.chat import Talker
from tests.support.mutation import Mutation, World, sender

DIALOGS = "(SELECT count(*) FROM dialogs)"
EVENTS = "(SELECT sum(seq)::bigint FROM dialogs)"
MESSAGES = "(SELECT count(*) FROM messages)"
MEMBERS = "(SELECT count(*) FROM members WHERE left_seq IS NULL)"
EDITS = "(SELECT count(*) FROM edits)"
DELETED = "(SELECT count(*) FROM messages WHERE deleted_at IS NOT NULL)"
REACTIONS = "(SELECT count(*) FROM reactions)"
READ = "(SELECT sum(read_no)::bigint FROM members)"
MUTED = "(SELECT count(*) FROM members WHERE muted)"
BLOCKS = "(SELECT count(*) FROM blocks)"
REPORTS = "(SELECT count(*) FROM reports)"
DEVICES = "(SELECT count(*) FROM devices)"

Counts = dict[str, int]


def mutation(
    world: World, name: str, effects: Counts, *requests: tuple[Talker, Message], **more: Any
) -> Mutation:
    """The request, another of the same person, and one of somebody else."""
    method = getattr(world.people.stub, name)
    mine, other, theirs = (sender(method, request, who.token) for who, request in requests)
    return Mutation(mine, world.messaging_owner, effects, other, theirs, **more)


async def create_dialog(world: World) -> Mutation:
    me, you, another = await world.people.some(3)

    def to(*who: Talker) -> pb.CreateDialogRequest:
        return pb.CreateDialogRequest(participants=[one.id for one in who], title="a group")

    effects = {DIALOGS: 1, MEMBERS: 2, EVENTS: 1}
    return mutation(world, "CreateDialog", effects, (me, to(you)), (me, to(another)), (you, to(another)))


async def create_direct(world: World) -> Mutation:
    me, you, another = await world.people.some(3)

    def to(who: Talker) -> pb.CreateDialogRequest:
        return pb.CreateDialogRequest(participants=[who.id])

    effects = {DIALOGS: 1, MEMBERS: 2, EVENTS: 1}
    return mutation(world, "CreateDialog", effects, (me, to(you)), (me, to(another)), (you, to(another)))


async def groups(world: World, others: int = 1) -> tuple[list[Talker], str, str]:
    """Some people, and two groups of all of them that the first two own."""
    them = await world.people.some(1 + others)
    mine = await them[0].group(*them[1:])
    theirs = await them[1].group(them[0], *them[2:])
    return them, mine.id, theirs.id


async def update_dialog(world: World) -> Mutation:
    (me, you), mine, theirs = await groups(world)

    def to(dialog: str, title: str) -> pb.UpdateDialogRequest:
        return pb.UpdateDialogRequest(dialog_id=dialog, title=title)

    requests = ((me, to(mine, "x")), (me, to(mine, "y")), (you, to(theirs, "x")))
    return mutation(world, "UpdateDialog", {EVENTS: 1}, *requests)


async def mute_dialog(world: World) -> Mutation:
    (me, you), mine, _ = await groups(world)

    def to(*, muted: bool) -> pb.MuteDialogRequest:
        return pb.MuteDialogRequest(dialog_id=mine, muted=muted)

    requests = ((me, to(muted=True)), (me, to(muted=False)), (you, to(muted=True)))
    return mutation(world, "MuteDialog", {MUTED: 1}, *requests)


async def send_message(world: World) -> Mutation:
    (me, you), mine, _ = await groups(world)

    def to(text: str) -> pb.SendMessageRequest:
        return pb.SendMessageRequest(dialog_id=mine, content=Content(text=text))

    return mutation(
        world,
        "SendMessage",
        {MESSAGES: 1, EVENTS: 1},
        (me, to("x")),
        (me, to("y")),
        (you, to("x")),
        refusal="CLIENT_MESSAGE_ID_REUSED",
    )


async def said(world: World) -> tuple[Talker, Talker, list[str], list[str]]:
    """Two people, and three messages of each in a group of theirs that both have read nothing of."""
    (me, you), mine, _ = await groups(world)
    ours = [(await me.say(mine, f"{n}")).id for n in range(3)]
    return me, you, ours, [(await you.say(mine, f"{n}")).id for n in range(3)]


async def edit_message(world: World) -> Mutation:
    me, you, mine, theirs = await said(world)

    def to(message: str, text: str) -> pb.EditMessageRequest:
        return pb.EditMessageRequest(id=message, content=Content(text=text))

    requests = ((me, to(mine[0], "x")), (me, to(mine[0], "y")), (you, to(theirs[0], "x")))
    return mutation(world, "EditMessage", {EDITS: 1, EVENTS: 1}, *requests)


async def delete_message(world: World) -> Mutation:
    me, you, mine, theirs = await said(world)
    requests = [
        (who, pb.DeleteMessageRequest(id=one))
        for who, one in ((me, mine[0]), (me, mine[1]), (you, theirs[0]))
    ]
    return mutation(world, "DeleteMessage", {DELETED: 1, EVENTS: 1}, *requests)


async def add_reaction(world: World) -> Mutation:
    me, you, mine, _ = await said(world)
    requests = [
        (who, pb.AddReactionRequest(id=mine[0], emoji=one))
        for who, one in ((me, "👍"), (me, "👎"), (you, "👍"))
    ]
    return mutation(world, "AddReaction", {REACTIONS: 1, EVENTS: 1}, *requests)


async def remove_reaction(world: World) -> Mutation:
    me, you, mine, _ = await said(world)
    for who in (me, you):
        await who.AddReaction(pb.AddReactionRequest(id=mine[0], emoji="👍"))
    requests = [
        (who, pb.RemoveReactionRequest(id=mine[0], emoji=one))
        for who, one in ((me, "👍"), (me, "👎"), (you, "👍"))
    ]
    return mutation(world, "RemoveReaction", {REACTIONS: -1, EVENTS: 1}, *requests)


async def mark_read(world: World) -> Mutation:
    me, you, _, theirs = await said(world)
    requests = [
        (who, pb.MarkReadRequest(id=one)) for who, one in ((me, theirs[0]), (me, theirs[1]), (you, theirs[0]))
    ]
    # From the third message of one's own to the first of the other.
    return mutation(world, "MarkRead", {READ: 1}, *requests)


async def report_message(world: World) -> Mutation:
    me, you, mine, theirs = await said(world)
    requests = [
        (who, pb.ReportMessageRequest(id=one, category=why))
        for who, one, why in ((me, theirs[0], "spam"), (me, theirs[0], "abuse"), (you, mine[0], "spam"))
    ]
    return mutation(world, "ReportMessage", {REPORTS: 1}, *requests)


async def add_member(world: World) -> Mutation:
    (me, you), mine, theirs = await groups(world)
    new, other = await world.people.some(2)
    requests = [
        (who, pb.AddMemberRequest(dialog_id=dialog, user_id=one.id))
        for who, dialog, one in ((me, mine, new), (me, mine, other), (you, theirs, new))
    ]
    return mutation(world, "AddMember", {MEMBERS: 1, EVENTS: 1}, *requests)


async def remove_member(world: World) -> Mutation:
    (me, you, one, other), mine, theirs = await groups(world, 3)
    requests = [
        (who, pb.RemoveMemberRequest(dialog_id=dialog, user_id=gone.id))
        for who, dialog, gone in ((me, mine, one), (me, mine, other), (you, theirs, one))
    ]
    return mutation(world, "RemoveMember", {MEMBERS: -1, EVENTS: 1}, *requests)


async def set_member_role(world: World) -> Mutation:
    (me, you, one), mine, theirs = await groups(world, 2)
    requests = [
        (who, pb.SetMemberRoleRequest(dialog_id=dialog, user_id=one.id, role=role))
        for who, dialog, role in ((me, mine, "owner"), (me, mine, "admin"), (you, theirs, "owner"))
    ]
    return mutation(world, "SetMemberRole", {EVENTS: 2}, *requests)


async def leave_dialog(world: World) -> Mutation:
    (me, you), mine, theirs = await groups(world)
    requests = [
        (who, pb.LeaveDialogRequest(dialog_id=dialog))
        for who, dialog in ((me, mine), (me, theirs), (you, theirs))
    ]
    return mutation(world, "LeaveDialog", {MEMBERS: -1, EVENTS: 2}, *requests)


async def block_user(world: World) -> Mutation:
    me, you, one, other = await world.people.some(4)
    requests = [
        (who, pb.BlockUserRequest(user_id=whom.id)) for who, whom in ((me, one), (me, other), (you, one))
    ]
    return mutation(world, "BlockUser", {BLOCKS: 1}, *requests)


async def unblock_user(world: World) -> Mutation:
    me, you, one, other = await world.people.some(4)
    await me.BlockUser(pb.BlockUserRequest(user_id=one.id))
    requests = [
        (who, pb.UnblockUserRequest(user_id=whom.id)) for who, whom in ((me, one), (me, other), (you, one))
    ]
    return mutation(world, "UnblockUser", {BLOCKS: -1}, *requests)


async def ack_events(world: World) -> Mutation:
    me, you = await world.people.some(2)

    async def token(who: Talker) -> str:
        frames = who.Subscribe(pb.SubscribeRequest(device_id="d"))
        try:
            async for frame in frames:
                if frame.resume:
                    return str(frame.resume)
        finally:
            frames.cancel()
        raise AssertionError("no frame had a token")

    tokens = [await token(who) for who in (me, me, you)]
    names = [secrets.token_hex(4) for _ in range(2)]
    requests = [
        (who, pb.AckEventsRequest(device_id=name, resume=resume))
        for who, name, resume in zip((me, me, you), (*names, names[0]), tokens, strict=True)
    ]
    return mutation(world, "AckEvents", {DEVICES: 1}, *requests)


MESSAGING: dict[str, Callable[[World], Awaitable[Mutation]]] = {
    "MessagingService/CreateDialog": create_dialog,
    "MessagingService/CreateDialog direct": create_direct,
    "MessagingService/UpdateDialog": update_dialog,
    "MessagingService/MuteDialog": mute_dialog,
    "MessagingService/SendMessage": send_message,
    "MessagingService/EditMessage": edit_message,
    "MessagingService/DeleteMessage": delete_message,
    "MessagingService/AddReaction": add_reaction,
    "MessagingService/RemoveReaction": remove_reaction,
    "MessagingService/MarkRead": mark_read,
    "MessagingService/ReportMessage": report_message,
    "MessagingService/AddMember": add_member,
    "MessagingService/RemoveMember": remove_member,
    "MessagingService/SetMemberRole": set_member_role,
    "MessagingService/LeaveDialog": leave_dialog,
    "MessagingService/BlockUser": block_user,
    "MessagingService/UnblockUser": unblock_user,
    "MessagingService/AckEvents": ack_events,
}
