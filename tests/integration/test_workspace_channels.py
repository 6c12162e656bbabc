"""Channels: workspace and messaging agree at the end, whatever is away or dies in between."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sampan.workspace.v1 import workspace_service_pb2 as pb
from services.mesh.app import App
from services.mesh.errors import FailedPrecondition
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support import faults
from tests.support.databases import Clone, clone, workspace_app
from tests.support.errors import reason
from tests.support.mesh import Minter, serving
from tests.support.stack import Stack
from tests.support.waiting import until
from tests.support.workspace import (
    QUICK,
    Caller,
    MessagingPlayed,
    People,
    channel_request,
    given_role,
    people_of,
)


@pytest.fixture
async def people(workspace: tuple[App, str], pki: Pki) -> AsyncIterator[People]:
    async with people_of(*workspace, pki) as found:
        yield found


@pytest.fixture
def messaging(messaging_played: tuple[MessagingPlayed, str]) -> MessagingPlayed:
    """There, whatever the test before did."""
    played = messaging_played[0]
    played.away, played.refuses = False, None
    played.gate.set()
    return played


@pytest.fixture
async def tables(workspace_database: Clone) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(workspace_database.owner_url)
    yield connection
    await connection.close()


async def untold(tables: asyncpg.Connection) -> int:
    """How many errands wait."""
    found = await tables.fetchval(
        "SELECT (SELECT count(*) FROM channels WHERE NOT told)"
        " + (SELECT count(*) FROM channel_members WHERE NOT told) + (SELECT count(*) FROM removals)"
    )
    return int(found)


async def all_told(tables: asyncpg.Connection) -> None:
    """Returns when messaging knows all."""
    await until(lambda: untold(tables), 0, within=10)


async def waiting(messaging: MessagingPlayed, count: int = 1) -> None:
    """Returns when so many calls have come to messaging and wait there."""

    async def come() -> bool:
        return messaging.waiting >= count

    await until(come, True, within=5)


async def joined(caller: Caller, channel: pb.Channel, **more: str) -> pb.Channel:
    found: pb.Channel = await caller.JoinChannel(channel_request(pb.JoinChannelRequest, channel, **more))
    return found


async def left(caller: Caller, channel: pb.Channel) -> None:
    await caller.LeaveChannel(channel_request(pb.LeaveChannelRequest, channel))


async def added(caller: Caller, channel: pb.Channel, user_id: str, **more: str) -> None:
    request = channel_request(pb.AddToChannelRequest, channel, user_id=user_id, **more)
    await caller.AddToChannel(request)


async def taken_out(caller: Caller, channel: pb.Channel, user_id: str) -> None:
    await caller.RemoveFromChannel(channel_request(pb.RemoveFromChannelRequest, channel, user_id=user_id))


async def closed(caller: Caller, channel: pb.Channel) -> None:
    await caller.DeleteChannel(channel_request(pb.DeleteChannelRequest, channel))


async def got(caller: Caller, channel: pb.Channel) -> pb.Channel:
    found: pb.Channel = await caller.GetChannel(channel_request(pb.GetChannelRequest, channel))
    return found


async def changed(caller: Caller, channel: pb.Channel, **what: Any) -> pb.Channel:
    request = channel_request(pb.UpdateChannelRequest, channel, **what)
    answer: pb.Channel = await caller.UpdateChannel(request)
    return answer


async def test_a_channel_is_a_dialog_of_the_same_id_with_its_maker_in_it(
    people: People, messaging: MessagingPlayed
) -> None:
    made, _, (member,) = await people.in_workspace(1)
    channel = await member.channel(made.id, name=" General ", description="all", is_private=True)
    assert (channel.name, channel.description, channel.is_private) == ("General", "all", True)
    assert (channel.workspace_id, channel.created_by) == (made.id, member.id)
    assert await got(member, channel) == channel
    dialog = messaging.dialogs[channel.id]
    assert (dialog.title, dialog.owner, dialog.members) == ("General", member.id, {member.id})
    assert dialog.workspace_id == made.id
    assert messaging.subjects[-1] == member.id


async def test_a_name_is_one_channels_whatever_its_case_and_whoever_asks_at_once(people: People) -> None:
    made, owner, others = await people.in_workspace(4)
    names = ["general", "General", " GENERAL", "ｇｅｎｅｒａｌ", "general "]
    callers = [owner, *others]
    done = await asyncio.gather(
        *(reason(one.channel(made.id, name=name)) for one in callers for name in names)
    )
    assert sorted(done) == [""] + ["CHANNEL_NAME_TAKEN"] * 24
    other = await owner.channel(made.id, name="other")
    assert await reason(changed(owner, other, name="GENERAL")) == "CHANNEL_NAME_TAKEN"
    assert (await changed(owner, other, name="Other")).name == "Other"
    elsewhere, stranger, _ = await people.in_workspace(0)
    assert (await stranger.channel(elsewhere.id, name="general")).name == "general"


async def test_public_channels_are_seen_by_members_and_private_ones_by_those_in_them(people: People) -> None:
    made, owner, (maker, guest, outsider) = await people.in_workspace(3)
    public = await maker.channel(made.id, name="b public")
    private = await maker.channel(made.id, name="a private", is_private=True)
    for one in (owner, guest, outsider):
        assert await one.channels(made.id) == ["b public"]
        assert await reason(got(one, private)) == "CHANNEL_NOT_FOUND"
        assert await reason(joined(one, private)) == "CHANNEL_NOT_FOUND"
        assert await reason(added(one, private, one.id)) == "CHANNEL_NOT_FOUND"
        assert await reason(closed(one, private)) == "CHANNEL_NOT_FOUND"
    await added(maker, private, guest.id)
    assert await guest.channels(made.id) == ["a private", "b public"]
    await left(guest, private)
    assert await guest.channels(made.id) == ["b public"]
    assert await reason(got(people.new(), public)) == "WORKSPACE_NOT_FOUND"
    other, stranger, _ = await people.in_workspace(0)
    public.workspace_id = other.id
    assert await reason(got(stranger, public)) == "CHANNEL_NOT_FOUND"


async def test_members_join_and_leave_and_are_put_in_and_taken_out(
    people: People, messaging: MessagingPlayed
) -> None:
    made, owner, (maker, one, two) = await people.in_workspace(3)
    channel = await maker.channel(made.id)
    dialog = messaging.dialogs[channel.id]
    for _ in range(2):
        assert await joined(one, channel) == channel
    assert dialog.members == {maker.id, one.id}
    assert await reason(added(two, channel, two.id)) == "PERMISSION_DENIED"
    await added(one, channel, two.id)
    assert await reason(added(one, channel, people.new().id)) == "MEMBER_NOT_FOUND"
    assert dialog.members == {maker.id, one.id, two.id}
    assert await reason(taken_out(one, channel, two.id)) == "PERMISSION_DENIED"
    await taken_out(maker, channel, two.id)
    await taken_out(owner, channel, one.id)
    assert dialog.members == {maker.id}
    for _ in range(2):
        await left(maker, channel)
    assert dialog.members == set()
    await joined(one, channel)
    assert dialog.members == {one.id}


async def test_a_channel_is_changed_and_closed_by_its_maker_and_who_manages(
    people: People, messaging: MessagingPlayed
) -> None:
    made, owner, (maker, admin, member) = await people.in_workspace(3)
    await owner.SetMemberRole(given_role(made.id, admin.id, "admin"))
    channel = await maker.channel(made.id)
    assert await reason(changed(member, channel, name="x")) == "PERMISSION_DENIED"
    assert await reason(closed(member, channel)) == "PERMISSION_DENIED"
    for one, name in ((maker, "by maker"), (admin, "by admin"), (owner, "by owner")):
        assert (await changed(one, channel, name=name)).name == name
        assert messaging.dialogs[channel.id].title == name
    await closed(admin, channel)
    assert not messaging.dialogs[channel.id].is_open
    assert await maker.channels(made.id) == []
    assert await reason(got(maker, channel)) == "CHANNEL_NOT_FOUND"
    assert (await member.channel(made.id, name="by owner")).name == "by owner"


async def test_fifty_equal_requests_make_one_channel(people: People, messaging: MessagingPlayed) -> None:
    made, owner, _ = await people.in_workspace(0)
    request_id, before = str(uuid.uuid4()), len(messaging.dialogs)
    done = await asyncio.gather(
        *(owner.channel(made.id, name="one", request_id=request_id) for _ in range(50))
    )
    assert len({one.SerializeToString(deterministic=True) for one in done}) == 1
    assert len(messaging.dialogs) == before + 1


async def test_while_messaging_is_away_a_channel_is_refused_and_nothing_of_it_is_seen(
    people: People, messaging: MessagingPlayed, tables: asyncpg.Connection
) -> None:
    made, owner, _ = await people.in_workspace(0)
    messaging.away, request_id = True, str(uuid.uuid4())
    for _ in range(2):
        refused = owner.channel(made.id, name="one", request_id=request_id)
        assert await reason(refused) == "UNAVAILABLE"
        assert await owner.channels(made.id) == []
    messaging.away = False
    channel = await owner.channel(made.id, name="one", request_id=request_id)
    assert await owner.channels(made.id) == ["one"]
    mine = [one for one, dialog in messaging.dialogs.items() if dialog.workspace_id == made.id]
    assert mine == [channel.id]
    await all_told(tables)


async def test_whoever_tries_again_without_a_request_id_gets_one_channel_too(
    workspace_database: Clone,
    messaging_played: tuple[MessagingPlayed, str],
    messaging: MessagingPlayed,
    pki: Pki,
) -> None:
    peers = {"identity": ["127.0.0.1:1"], "messaging": [messaging_played[1]]}
    mesh = MeshSettings(rate_limit_scale=10_000, peers=peers)
    # Nobody but the one who asks finishes anything here.
    settings = QUICK | {"sweep_seconds": 3600.0}
    app = await workspace_app(workspace_database, pki, mesh, Minter(), **settings)
    async with serving(app, mesh) as address, people_of(app, address, pki) as people:
        made, owner, (member,) = await people.in_workspace(1)
        messaging.away = True
        assert await reason(owner.channel(made.id, name="one", description="first")) == "UNAVAILABLE"
        messaging.away = False
        assert await reason(member.channel(made.id, name="one")) == "CHANNEL_NAME_TAKEN"
        channel = await owner.channel(made.id, name="one", description="second")
        assert (await got(owner, channel)).description == "second"
        assert await owner.channels(made.id) == ["one"]


async def test_a_messaging_that_does_not_answer_is_waited_for_no_longer_than_said(
    people: People, messaging: MessagingPlayed, tables: asyncpg.Connection
) -> None:
    made, owner, (member,) = await people.in_workspace(1)
    channel = await owner.channel(made.id)
    messaging.gate.clear()
    assert await reason(joined(member, channel)) == "DEADLINE_EXCEEDED"
    await left(member, channel)
    assert await reason(owner.channel(made.id)) == "DEADLINE_EXCEEDED"
    messaging.gate.set()
    await all_told(tables)
    assert messaging.dialogs[channel.id].members == {owner.id}


async def test_joining_is_refused_while_messaging_is_away_and_done_when_it_is_back(
    people: People, messaging: MessagingPlayed, tables: asyncpg.Connection
) -> None:
    made, owner, (member,) = await people.in_workspace(1)
    channel = await owner.channel(made.id)
    messaging.away = True
    assert await reason(joined(member, channel)) == "UNAVAILABLE"
    messaging.away = False
    await all_told(tables)
    assert messaging.dialogs[channel.id].members == {owner.id, member.id}


async def test_what_messaging_refuses_is_not_so_and_its_reason_is_passed_on(
    people: People, messaging: MessagingPlayed, tables: asyncpg.Connection
) -> None:
    made, owner, (member,) = await people.in_workspace(1)
    channel = await owner.channel(made.id, is_private=True)
    full = FailedPrecondition("the dialog is full")
    full.reason, full.domain = "DIALOG_FULL", "sampan.messaging"
    messaging.refuses = full
    assert await reason(added(owner, channel, member.id)) == "DIALOG_FULL"
    messaging.refuses = None
    assert await untold(tables) == 0
    assert await member.channels(made.id) == []
    await added(owner, channel, member.id)
    assert await member.channels(made.id) == [channel.name]


async def test_leaving_counts_at_once_and_messaging_hears_of_it_later(
    people: People, messaging: MessagingPlayed, tables: asyncpg.Connection
) -> None:
    made, owner, (leaves, removed, stays) = await people.in_workspace(3)
    channels = [await owner.channel(made.id, is_private=private) for private in (False, True)]
    for channel in channels:
        for one in (leaves, removed, stays):
            await added(owner, channel, one.id)
    messaging.away = True
    await leaves.LeaveWorkspace(pb.LeaveWorkspaceRequest(workspace_id=made.id))
    await owner.RemoveMember(pb.RemoveMemberRequest(workspace_id=made.id, user_id=removed.id))
    await left(stays, channels[1])
    await changed(owner, channels[0], name="renamed")
    assert await stays.channels(made.id) == ["renamed"]
    for one in (leaves, removed):
        assert await reason(got(one, channels[0])) == "WORKSPACE_NOT_FOUND"
    messaging.away = False
    await all_told(tables)
    assert messaging.dialogs[channels[0].id].members == {owner.id, stays.id}
    assert messaging.dialogs[channels[0].id].title == "renamed"
    assert messaging.dialogs[channels[1].id].members == {owner.id}


async def test_who_comes_back_is_not_taken_out_by_what_was_said_before(
    people: People, messaging: MessagingPlayed, tables: asyncpg.Connection
) -> None:
    made, owner, (member,) = await people.in_workspace(1)
    code, channel = (await owner.invite(made.id)).code, await owner.channel(made.id)
    await joined(member, channel)
    messaging.away = True
    await member.LeaveWorkspace(pb.LeaveWorkspaceRequest(workspace_id=made.id))
    assert await reason(member.join(code)) == "UNAVAILABLE"
    messaging.away = False
    await member.join(code)
    await joined(member, channel)
    await all_told(tables)
    assert messaging.dialogs[channel.id].members == {owner.id, member.id}


async def test_who_is_removed_while_they_are_put_in_is_not_in_it_at_the_end(
    people: People, messaging: MessagingPlayed, tables: asyncpg.Connection
) -> None:
    made, owner, (member,) = await people.in_workspace(1)
    channel = await owner.channel(made.id)
    messaging.gate.clear()
    joining = asyncio.create_task(reason(joined(member, channel)))
    await waiting(messaging)
    removing = asyncio.create_task(
        reason(owner.RemoveMember(pb.RemoveMemberRequest(workspace_id=made.id, user_id=member.id)))
    )
    await waiting(messaging, 2)
    messaging.gate.set()
    assert await removing == ""
    assert await joining == "WORKSPACE_NOT_FOUND"
    await all_told(tables)
    assert messaging.dialogs[channel.id].members == {owner.id}


async def test_a_channel_that_somebody_makes_while_they_are_removed_is_closed(
    people: People, messaging: MessagingPlayed, tables: asyncpg.Connection
) -> None:
    made, owner, (member,) = await people.in_workspace(1)
    messaging.gate.clear()
    making = asyncio.create_task(reason(member.channel(made.id, name="mine")))
    await waiting(messaging)
    removing = asyncio.create_task(
        reason(owner.RemoveMember(pb.RemoveMemberRequest(workspace_id=made.id, user_id=member.id)))
    )
    await waiting(messaging, 2)
    messaging.gate.set()
    assert [await making, await removing] == ["WORKSPACE_NOT_FOUND", ""]
    await all_told(tables)
    mine = [dialog for dialog in messaging.dialogs.values() if dialog.workspace_id == made.id]
    assert [one.is_open for one in mine] == [False]
    assert await owner.channels(made.id) == []
    count = "SELECT channel_count FROM workspaces WHERE id = $1"
    assert await tables.fetchval(count, uuid.UUID(made.id)) == 0


async def test_joining_and_leaving_at_once_ends_alike_on_both_sides(
    people: People, messaging: MessagingPlayed, tables: asyncpg.Connection
) -> None:
    made, owner, members = await people.in_workspace(5)
    channel = await owner.channel(made.id)

    async def restless(one: Caller) -> None:
        for _ in range(4):
            await asyncio.gather(
                joined(one, channel), left(one, channel), reason(added(owner, channel, one.id))
            )

    await asyncio.gather(*(restless(one) for one in members))
    await all_told(tables)
    rows = await tables.fetch(
        "SELECT user_id FROM channel_members WHERE channel_id = $1 AND state = 2", uuid.UUID(channel.id)
    )
    assert {str(row["user_id"]) for row in rows} == messaging.dialogs[channel.id].members


async def test_closing_a_workspace_closes_its_channels(
    people: People, messaging: MessagingPlayed, tables: asyncpg.Connection
) -> None:
    made, owner, (member,) = await people.in_workspace(1)
    channels = [await owner.channel(made.id) for _ in range(3)]
    await joined(member, channels[0])
    messaging.away = True
    await owner.DeleteWorkspace(pb.DeleteWorkspaceRequest(workspace_id=made.id))
    messaging.away = False
    await all_told(tables)
    assert not any(messaging.dialogs[one.id].is_open for one in channels)
    for table in ("channels", "channel_members"):
        count = f"SELECT count(*) FROM {table} WHERE workspace_id = $1"  # noqa: S608
        assert await tables.fetchval(count, uuid.UUID(made.id)) == 0


@pytest.mark.parametrize("step", ["create_channel.after_commit", "told.before_commit", "told.after_commit"])
async def test_what_a_crash_left_of_a_channel_is_finished_by_the_sweeper(
    people: People, messaging: MessagingPlayed, tables: asyncpg.Connection, tmp_path: Path, step: str
) -> None:
    made, owner, _ = await people.in_workspace(0)
    with faults.here(tmp_path), faults.armed(tmp_path, f"workspace.{step}", "raise"):
        assert await reason(owner.channel(made.id, name="one")) == "INTERNAL"
    await all_told(tables)
    assert await owner.channels(made.id) == ["one"]
    mine = [dialog for dialog in messaging.dialogs.values() if dialog.workspace_id == made.id]
    assert [(one.title, one.members) for one in mine] == [("one", {owner.id})]


async def test_what_a_crash_left_of_a_departure_is_finished_by_the_sweeper(
    people: People, messaging: MessagingPlayed, tables: asyncpg.Connection, tmp_path: Path
) -> None:
    made, owner, (member,) = await people.in_workspace(1)
    channel = await member.channel(made.id)
    with faults.here(tmp_path), faults.armed(tmp_path, "workspace.leave.after_commit", "raise"):
        leaving = member.LeaveWorkspace(pb.LeaveWorkspaceRequest(workspace_id=made.id))
        assert await reason(leaving) == "INTERNAL"
    await all_told(tables)
    assert messaging.dialogs[channel.id].members == set()
    assert await owner.channels(made.id) == [channel.name]


async def test_two_processes_finish_what_is_left_once_each(
    stack: Stack, pki: Pki, messaging_played: tuple[MessagingPlayed, str], messaging: MessagingPlayed
) -> None:
    peers = {"identity": ["127.0.0.1:1"], "messaging": [messaging_played[1]]}
    mesh = MeshSettings(rate_limit_scale=10_000, peers=peers)
    async with clone(stack, "workspace") as found:
        minter = Minter()
        apps = [await workspace_app(found, pki, mesh, minter, **QUICK) for _ in range(2)]
        async with (
            serving(apps[0], mesh) as first,
            serving(apps[1], mesh),
            people_of(apps[0], first, pki) as people,
        ):
            made, owner, _ = await people.in_workspace(0)
            channels = [await owner.channel(made.id) for _ in range(30)]
            before = len(messaging.calls)
            await owner.DeleteWorkspace(pb.DeleteWorkspaceRequest(workspace_id=made.id))
            tables = await asyncpg.connect(found.owner_url)
            await all_told(tables)
            await tables.close()
    assert not any(messaging.dialogs[one.id].is_open for one in channels)
    assert [what for what, _ in messaging.calls[before:]] == ["delete"] * 30


async def test_one_channel_over_the_limit_is_refused(
    workspace_database: Clone,
    messaging_played: tuple[MessagingPlayed, str],
    messaging: MessagingPlayed,
    pki: Pki,
) -> None:
    peers = {"identity": ["127.0.0.1:1"], "messaging": [messaging_played[1]]}
    mesh = MeshSettings(rate_limit_scale=10_000, peers=peers)
    app = await workspace_app(workspace_database, pki, mesh, Minter(), **QUICK, max_channels=2)
    async with serving(app, mesh) as address, people_of(app, address, pki) as people:
        made, owner, _ = await people.in_workspace(0)
        done = await asyncio.gather(*(reason(owner.channel(made.id)) for _ in range(5)))
        assert sorted(done) == ["", "", *["TOO_MANY_CHANNELS"] * 3]
        channel = (await owner.ListChannels(pb.ListChannelsRequest(workspace_id=made.id))).channels[0]
        await closed(owner, channel)
        assert await reason(owner.channel(made.id)) == ""


async def test_channels_are_listed_by_name_without_gaps_or_repeats(people: People) -> None:
    made, owner, _ = await people.in_workspace(0)
    names = ["Banana", "apple", "Cherry", "ทุเรียน", "durian", "b"]
    for name in names:
        await owner.channel(made.id, name=name)
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListChannelsRequest(workspace_id=made.id, limit=2, page_token=token)
        page = await owner.ListChannels(request)
        assert page.total == 6
        found += [one.name for one in page.channels]
        token = page.next_page_token
        if not token:
            break
    assert found == ["apple", "b", "Banana", "Cherry", "durian", "ทุเรียน"]
