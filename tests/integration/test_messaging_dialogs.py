"""Dialogs and their members on a real database, behind the production chain."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.app import App
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support import databases
from tests.support.chat import Recorder, Talker, Talkers, talkers
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.mesh import Minter, channel_as, serving


async def roles(who: Talker, dialog_id: str) -> dict[str, str]:
    """Who has which role."""
    found = await who.ListMembers(pb.ListMembersRequest(dialog_id=dialog_id, limit=100))
    return {member.user_id: member.role for member in found.members}


async def test_two_people_have_one_direct_dialog_whoever_asks_and_however_often(
    people: Talkers, heard: Recorder
) -> None:
    one, other = await people.some(2)
    made = [await one.direct(other), await other.direct(one)]
    more = await asyncio.gather(*((one if n % 2 else other).direct((one, other)[n % 2]) for n in range(50)))
    assert len({dialog.id for dialog in (*made, *more)}) == 1
    dialog = made[0]
    assert (dialog.kind, dialog.member_count, dialog.last_seq, dialog.title) == ("direct", 2, 1, "")
    assert {member.user_id for member in dialog.members} == {one.id, other.id}
    assert [event.WhichOneof("change") for event in heard.of(dialog.id)] == ["dialog_created"]
    assert sorted(heard.came[-2:]) == sorted([(dialog.id, one.id), (dialog.id, other.id)])


async def test_fifty_first_asks_at_once_make_one_direct_dialog(people: Talkers) -> None:
    one, other = await people.some(2)
    made = await asyncio.gather(*((one if n % 2 else other).direct((one, other)[n % 2]) for n in range(50)))
    assert len({dialog.id for dialog in made}) == 1
    for who in (one, other):
        found = await who.ListDialogs(pb.ListDialogsRequest())
        assert (len(found.dialogs), found.total) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({}, "participants.others"),
        ({"participants": ["self"]}, "participants.others"),
        ({"participants": ["a", "b"], "kind": "direct"}, "participants.direct"),
        ({"participants": ["nobody"]}, "USER_NOT_FOUND"),
        ({"participants": ["a", "nobody"], "title": "x"}, "USER_NOT_FOUND"),
        ({"participants": ["a", "a"]}, "repeated.unique"),
        ({"participants": ["1"]}, "string.uuid"),
        ({"participants": ["a"], "kind": "channel"}, "string.in"),
        ({"participants": ["a"], "title": "x" * 129}, "string.max_len"),
        ({"participants": ["a"], "title": "a\nb"}, "string.pattern"),
    ],
    ids=str,
)
async def test_a_dialog_that_breaks_a_rule_is_refused(
    people: Talkers, fields: dict[str, Any], rule: str
) -> None:
    me, a, b = await people.some(3)
    known = {"self": me.id, "a": a.id, "b": b.id, "nobody": str(uuid.uuid4())}
    named = [known.get(one, one) for one in fields.pop("participants", [])]
    request = pb.CreateDialogRequest(participants=named, **fields)
    wanted = rule if rule.isupper() else "INVALID_ARGUMENT"
    assert await reason(me.CreateDialog(request)) == wanted
    assert (await me.ListDialogs(pb.ListDialogsRequest())).total == 0


async def test_kinds_follow_from_what_is_asked_for(people: Talkers) -> None:
    me, a, b = await people.some(3)

    async def kind(*who: Talker, **more: str) -> str:
        request = pb.CreateDialogRequest(participants=[one.id for one in who], **more)
        return str((await me.CreateDialog(request)).kind)

    assert [await kind(a), await kind(me, a), await kind(a, b), await kind(a, title="x")] == [
        "direct",
        "direct",
        "group",
        "group",
    ]
    assert await kind(a, kind="group") == "group"


async def test_dialogs_are_listed_newest_first_in_pages(people: Talkers) -> None:
    one, *others = await people.some(8)
    made = [(await one.group(other, title=f"{n}")).id for n, other in enumerate(others)]
    said = [await one.say(made[n]) for n in (3, 1)]
    order = [made[n] for n in (1, 3, 6, 5, 4, 2, 0)]
    found: list[Any] = []
    token = ""
    while True:
        page = await one.ListDialogs(pb.ListDialogsRequest(limit=3, page_token=token))
        assert page.total == 7
        found += page.dialogs
        token = page.next_page_token
        assert page.has_more == bool(token)
        if not token:
            break
    assert [dialog.id for dialog in found] == order
    assert found[0].last_message == said[1]
    assert not found[2].HasField("last_message")
    assert (found[0].role, found[0].muted, found[0].first_seq) == ("owner", False, 1)
    assert await reason(others[0].ListDialogs(pb.ListDialogsRequest(page_token="x"))) == "INVALID_ARGUMENT"


async def test_who_joins_a_group_sees_what_follows_and_nothing_is_unread(
    people: Talkers, heard: Recorder
) -> None:
    owner, member, late = await people.some(3)
    dialog = await owner.group(member)
    early = await owner.say(dialog.id, "before")
    added = await owner.AddMember(pb.AddMemberRequest(dialog_id=dialog.id, user_id=late.id))
    assert (added.user_id, added.role) == (late.id, "member")
    seen = await late.see(dialog.id)
    assert (seen.unread_count, seen.HasField("last_message"), seen.last_seq) == (0, False, 3)
    assert await late.history(dialog.id) == []
    assert await reason(late.GetMessage(pb.GetMessageRequest(id=early.id))) == "MESSAGE_NOT_FOUND"
    now = await owner.say(dialog.id, "after")
    assert await late.history(dialog.id) == [now]
    assert (await late.see(dialog.id)).unread_count == 1
    # Adding again changes nothing, whatever role is named.
    again = pb.AddMemberRequest(dialog_id=dialog.id, user_id=late.id, role="admin")
    assert (await owner.AddMember(again)).role == "member"
    assert [event.WhichOneof("change") for event in heard.of(dialog.id)][2] == "member_added"
    assert heard.came[-1] == (dialog.id, late.id)
    # Who comes back sees what follows then.
    await late.LeaveDialog(pb.LeaveDialogRequest(dialog_id=dialog.id))
    await owner.say(dialog.id, "while away")
    await owner.AddMember(pb.AddMemberRequest(dialog_id=dialog.id, user_id=late.id))
    assert await late.history(dialog.id) == []
    assert (await late.see(dialog.id)).unread_count == 0


async def test_rights_in_a_group(people: Talkers) -> None:
    owner, admin, admin2, member, new = await people.some(5)
    dialog = await owner.group(admin, admin2, member)

    def role(who: Talker, of: Talker, name: str) -> Any:
        return who.SetMemberRole(pb.SetMemberRoleRequest(dialog_id=dialog.id, user_id=of.id, role=name))

    def remove(who: Talker, of: Talker) -> Any:
        return who.RemoveMember(pb.RemoveMemberRequest(dialog_id=dialog.id, user_id=of.id))

    def add(who: Talker, of: Talker, name: str = "") -> Any:
        return who.AddMember(pb.AddMemberRequest(dialog_id=dialog.id, user_id=of.id, role=name))

    def rename(who: Talker) -> Any:
        return who.UpdateDialog(pb.UpdateDialogRequest(dialog_id=dialog.id, title="renamed"))

    for one in (admin, admin2):
        assert (await role(owner, one, "admin")).role == "admin"
    refused = [role(admin, member, "admin"), role(member, member, "owner"), role(owner, owner, "member")]
    refused += [remove(member, new), remove(admin, admin2), remove(admin, owner), remove(member, admin)]
    refused += [add(member, new), add(admin, new, "admin"), rename(member)]
    assert [await reason(call) for call in refused] == ["PERMISSION_DENIED"] * len(refused)
    assert await reason(role(owner, new, "admin")) == "MEMBER_NOT_FOUND"
    assert await reason(remove(owner, new)) == "MEMBER_NOT_FOUND"
    for call in (role(new, new, "owner"), remove(new, member), add(new, new), rename(new)):
        assert await reason(call) == "DIALOG_NOT_FOUND"
    assert await reason(add(admin, new)) == ""
    assert await reason(remove(admin, new)) == ""
    assert (await rename(admin)).title == "renamed"
    # The owner gives the group away, and is an admin then.
    assert (await role(owner, member, "owner")).role == "owner"
    found = await roles(owner, dialog.id)
    assert (found[owner.id], found[member.id]) == ("admin", "owner")
    assert await reason(remove(member, owner)) == ""
    assert await reason(owner.see(dialog.id)) == "DIALOG_NOT_FOUND"


async def test_when_the_owner_leaves_the_oldest_admin_or_else_the_oldest_member_owns_the_group(
    people: Talkers, heard: Recorder
) -> None:
    owner, admin, member = await people.some(3)
    dialog = await owner.group(member)
    await owner.AddMember(pb.AddMemberRequest(dialog_id=dialog.id, user_id=admin.id, role="admin"))
    await owner.LeaveDialog(pb.LeaveDialogRequest(dialog_id=dialog.id))
    assert await roles(admin, dialog.id) == {admin.id: "owner", member.id: "member"}
    left = next(event for event in heard.of(dialog.id) if event.HasField("member_removed"))
    assert heard.went[-1] == (dialog.id, owner.id, left.seq)
    await admin.RemoveMember(pb.RemoveMemberRequest(dialog_id=dialog.id, user_id=admin.id))
    assert await roles(member, dialog.id) == {member.id: "owner"}
    changes = [event.WhichOneof("change") for event in heard.of(dialog.id)]
    assert changes[-4:] == ["member_removed", "member_role_changed"] * 2
    await member.LeaveDialog(pb.LeaveDialogRequest(dialog_id=dialog.id))
    assert await reason(member.see(dialog.id)) == "DIALOG_NOT_FOUND"
    assert [event.seq for event in heard.of(dialog.id)] == list(range(1, 8))


async def test_some_things_are_for_groups_only(people: Talkers) -> None:
    one, other, third = await people.some(3)
    dialog = await one.direct(other)
    calls = [
        one.UpdateDialog(pb.UpdateDialogRequest(dialog_id=dialog.id, title="x")),
        one.AddMember(pb.AddMemberRequest(dialog_id=dialog.id, user_id=third.id)),
        one.RemoveMember(pb.RemoveMemberRequest(dialog_id=dialog.id, user_id=other.id)),
        one.SetMemberRole(pb.SetMemberRoleRequest(dialog_id=dialog.id, user_id=other.id, role="admin")),
        one.LeaveDialog(pb.LeaveDialogRequest(dialog_id=dialog.id)),
    ]
    assert [await reason(call) for call in calls] == ["DIALOG_KIND"] * 5


async def test_only_what_is_given_changes_and_no_change_is_no_event(people: Talkers, heard: Recorder) -> None:
    one, other = await people.some(2)
    dialog = await one.group(other, title="t")
    request = pb.UpdateDialogRequest(dialog_id=dialog.id, description="about")
    for _ in range(2):
        changed = await one.UpdateDialog(request)
        assert (changed.title, changed.description, changed.last_seq) == ("t", "about", 2)
    changed = await one.UpdateDialog(pb.UpdateDialogRequest(dialog_id=dialog.id, title=""))
    assert (changed.title, changed.description, changed.last_seq) == ("", "about", 3)
    assert heard.of(dialog.id)[-1].dialog_updated.description == "about"
    muted = await other.MuteDialog(pb.MuteDialogRequest(dialog_id=dialog.id, muted=True))
    assert (muted.muted, (await one.see(dialog.id)).muted) == (True, False)


async def test_members_are_listed_by_rights_and_time_in_pages(people: Talkers) -> None:
    owner, *others = await people.some(12)
    dialog = await owner.group(*others[:5])
    for one in others[5:]:
        role = "admin" if one is others[8] else ""
        await owner.AddMember(pb.AddMemberRequest(dialog_id=dialog.id, user_id=one.id, role=role))
    found, token = [], ""
    while True:
        request = pb.ListMembersRequest(dialog_id=dialog.id, limit=5, page_token=token)
        page = await others[0].ListMembers(request)
        assert page.total == 12
        found += [member.user_id for member in page.members]
        token = page.next_page_token
        if not page.has_more:
            break
    late = [one.id for one in others[5:] if one is not others[8]]
    assert found[:2] == [owner.id, others[8].id]
    assert set(found[2:7]) == {one.id for one in others[:5]}
    assert found[7:] == late
    assert [member.user_id for member in (await owner.see(dialog.id)).members] == found


async def test_a_group_takes_as_many_as_its_setting_says(
    messaging_database: Clone, identity: tuple[App, str], identity_database: Clone, pki: Pki
) -> None:
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": [identity[1]]})
    minter = Minter()
    app = await databases.messaging_app(messaging_database, pki, mesh, minter, Recorder(), group_members=3)
    async with (
        serving(app, mesh) as address,
        channel_as("edge", address, "messaging", pki) as edge,
        talkers(edge, edge, minter, identity_database.owner_url) as people,
    ):
        owner, *others = await people.some(6)
        dialog = await owner.group(others[0])
        calls = [
            owner.AddMember(pb.AddMemberRequest(dialog_id=dialog.id, user_id=one.id)) for one in others[1:]
        ]
        assert sorted([await reason(call) for call in calls]) == ["", *["DIALOG_FULL"] * 3]
        assert await reason(owner.group(*others)) == "DIALOG_FULL"
