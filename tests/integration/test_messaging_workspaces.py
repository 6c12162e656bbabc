"""Messaging hears from workspace who has left, also when it was not told by a call."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from sampan.messaging.v1 import messaging_internal_service_pb2 as messaging
from sampan.messaging.v1.messaging_internal_service_pb2_grpc import MessagingInternalServiceStub
from sampan.workspace.v1 import events_pb2
from sampan.workspace.v1 import workspace_service_pb2 as pb
from services.mesh.database import Database
from services.mesh.inbox import Received
from services.mesh.settings import MeshSettings
from services.messaging.workspace_events import MEMBER_REMOVED, WorkspaceEvents
from services.stack.pki import Pki
from tests.support.bus import nats_server
from tests.support.chat import Recorder
from tests.support.databases import Clone, messaging_app, workspace_app
from tests.support.mesh import Minter, channel_as, serving
from tests.support.waiting import holds
from tests.support.workspace import QUICK, People, people_of

PEERS = {"identity": ["127.0.0.1:1"]}


@dataclass
class Both:
    """Workspace, which cannot call messaging, and messaging, with a bus between them."""

    people: People
    channels: MessagingInternalServiceStub
    heard: Recorder
    tables: asyncpg.Connection

    async def channel(self, workspace_id: str, *people: str) -> str:
        """A channel with some people in it, whom messaging was told of."""
        dialog_id = str(uuid.uuid4())
        await self.channels.CreateChannel(
            messaging.CreateChannelRequest(
                dialog_id=dialog_id,
                workspace_id=workspace_id,
                title="general",
                created_by=people[0],
                members=people[1:],
            )
        )
        return dialog_id

    async def members(self, dialog_id: str) -> set[str]:
        """Who is in a channel."""
        rows = await self.tables.fetch(
            "SELECT user_id FROM members WHERE dialog_id = $1 AND left_seq IS NULL", uuid.UUID(dialog_id)
        )
        return {str(row["user_id"]) for row in rows}


@pytest.fixture
async def both(
    workspace_database: Clone, messaging_database: Clone, pki: Pki, tmp_path: Path
) -> AsyncIterator[Both]:
    mesh = MeshSettings(rate_limit_scale=10_000, peers=PEERS, relay_poll_seconds=0.05)
    minter, heard = Minter(), Recorder()
    async with nats_server(tmp_path) as server:
        first = await workspace_app(
            workspace_database, pki, mesh, minter, **QUICK, nats_url=server.url("workspace")
        )
        second = await messaging_app(
            messaging_database, pki, mesh, minter, heard, nats_url=server.url("messaging")
        )
        async with (
            serving(first, mesh) as address,
            serving(second, mesh) as other,
            people_of(first, address, pki) as people,
            channel_as("workspace", other, "messaging", pki) as to_messaging,
        ):
            tables = await asyncpg.connect(messaging_database.owner_url)
            yield Both(people, MessagingInternalServiceStub(to_messaging), heard, tables)
            await tables.close()


async def test_who_leaves_or_is_removed_is_in_no_channel_of_the_workspace(both: Both) -> None:
    made, owner, (leaves, goes, stays) = await both.people.in_workspace(3)
    all_of_them = [owner.id, leaves.id, goes.id, stays.id]
    inside = [await both.channel(made.id, *all_of_them) for _ in range(2)]
    elsewhere = await both.channel(str(uuid.uuid4()), *all_of_them)
    await leaves.LeaveWorkspace(pb.LeaveWorkspaceRequest(workspace_id=made.id))
    await owner.RemoveMember(pb.RemoveMemberRequest(workspace_id=made.id, user_id=goes.id))

    async def told() -> None:
        for dialog_id in inside:
            assert await both.members(dialog_id) == {owner.id, stays.id}
            events = [one for one in both.heard.of(dialog_id) if one.HasField("member_removed")]
            said = [(one.member_removed.user_id, one.actor_id) for one in events]
            assert said == [(leaves.id, leaves.id), (goes.id, owner.id)]
            went = [(user_id, seq) for where, user_id, seq in both.heard.went if where == dialog_id]
            assert went == [(leaves.id, events[0].seq), (goes.id, events[1].seq)]

    # Who is connected is told after the commit.
    await holds(told)
    assert await both.members(elsewhere) == set(all_of_them)


async def test_a_closed_workspace_has_no_channels(both: Both) -> None:
    made, owner, (member,) = await both.people.in_workspace(1)
    inside = [await both.channel(made.id, owner.id, member.id) for _ in range(3)]
    elsewhere = await both.channel(str(uuid.uuid4()), owner.id, member.id)
    await owner.DeleteWorkspace(pb.DeleteWorkspaceRequest(workspace_id=made.id))

    async def told() -> None:
        assert [await both.members(dialog_id) for dialog_id in inside] == [set()] * 3
        assert {where for where, _, _ in both.heard.went} == set(inside)

    await holds(told)
    assert await both.members(elsewhere) == {owner.id, member.id}


async def test_who_has_come_back_since_is_not_taken_out_by_an_event_that_comes_late(
    both: Both, messaging_database: Clone
) -> None:
    workspace_id, owner, member = (str(uuid.uuid4()) for _ in range(3))
    dialog_id = await both.channel(workspace_id, owner, member)
    database = Database(messaging_database.runtime_url, pool=1, timeout=5, name="tests")
    handle = WorkspaceEvents(Recorder()).handlers[MEMBER_REMOVED]

    async def heard(removed_at: datetime) -> None:
        told = events_pb2.MemberRemoved(workspace_id=workspace_id, user_id=member, actor_id=owner)
        told.removed_at.FromDatetime(removed_at)
        event = Received(uuid.uuid4(), MEMBER_REMOVED, uuid.UUID(workspace_id), 1, told.SerializeToString())
        effect = await handle(event)
        async with database.transaction() as connection:
            await effect(connection)

    try:
        now = datetime.now(UTC)
        await heard(now - timedelta(minutes=1))
        assert await both.members(dialog_id) == {owner, member}
        await heard(now + timedelta(minutes=1))
        assert await both.members(dialog_id) == {owner}
    finally:
        await database.close()
