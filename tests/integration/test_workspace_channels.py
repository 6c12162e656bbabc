"""Channels of workspaces, which are dialogs of messaging."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from sampan.workspace.v1 import workspace_service_pb2 as pb
from services.mesh.app import App
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support.databases import Clone, workspace_app
from tests.support.errors import reason
from tests.support.mesh import Minter, serving
from tests.support.workspace import (
    QUICK,
    MessagingPlayed,
    People,
    given_role,
    people_of,
)
from tests.support.workspace_channels import (
    added,
    changed,
    closed,
    got,
    joined,
    left,
    taken_out,
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
