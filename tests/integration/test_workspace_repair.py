"""Channels: workspace and messaging agree at the end, whatever is away or dies in between."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

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
from tests.support.workspace import (
    QUICK,
    Caller,
    MessagingPlayed,
    People,
    people_of,
)
from tests.support.workspace_channels import (
    added,
    all_told,
    changed,
    got,
    joined,
    left,
    untold,
    waiting,
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
