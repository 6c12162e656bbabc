"""Workspaces and members on a real database, behind the production chain."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from sampan.workspace.v1 import events_pb2
from sampan.workspace.v1 import workspace_service_pb2 as pb
from services.mesh.app import App
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support.databases import Clone, workspace_app
from tests.support.errors import reason
from tests.support.mesh import Minter, serving
from tests.support.workspace import QUICK, Caller, People, given_role, people_of, slug


@pytest.fixture
async def people(workspace: tuple[App, str], pki: Pki) -> AsyncIterator[People]:
    async with people_of(*workspace, pki) as found:
        yield found


@pytest.fixture
async def owner_of_tables(workspace_database: Clone) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(workspace_database.owner_url)
    yield connection
    await connection.close()


async def seen(caller: Caller, workspace_id: str) -> pb.Workspace:
    found: pb.Workspace = await caller.GetWorkspace(pb.GetWorkspaceRequest(workspace_id=workspace_id))
    return found


async def left(caller: Caller, workspace_id: str, **more: str) -> None:
    await caller.LeaveWorkspace(pb.LeaveWorkspaceRequest(workspace_id=workspace_id, **more))


async def removed(caller: Caller, workspace_id: str, user_id: str) -> None:
    await caller.RemoveMember(pb.RemoveMemberRequest(workspace_id=workspace_id, user_id=user_id))


async def test_who_makes_a_workspace_owns_it(people: People) -> None:
    person = people.new()
    made = await person.workspace(name=" Durian ", description="all of it")
    assert (made.name, made.description, made.owner_id) == ("Durian", "all of it", person.id)
    assert (made.member_count, made.role) == (1, "owner")
    assert await seen(person, made.id) == made
    assert await person.members(made.id) == {person.id: "owner"}


async def test_of_many_workspaces_with_one_slug_made_at_once_there_is_one(people: People) -> None:
    wanted = slug()
    done = await asyncio.gather(*(reason(people.new().workspace(slug=wanted)) for _ in range(20)))
    assert sorted(done) == [""] + ["SLUG_TAKEN"] * 19
    other = people.new()
    made = await other.workspace()
    change = pb.UpdateWorkspaceRequest(workspace_id=made.id, slug=wanted)
    assert await reason(other.UpdateWorkspace(change)) == "SLUG_TAKEN"
    change.slug = made.slug
    assert (await other.UpdateWorkspace(change)).slug == made.slug


async def test_who_is_not_in_a_workspace_cannot_tell_whether_it_exists(people: People) -> None:
    made, _, _ = await people.in_workspace(0)
    stranger = people.new()
    for workspace_id in (made.id, str(uuid.uuid4())):
        where = {"workspace_id": workspace_id}
        for refused in (
            stranger.GetWorkspace(pb.GetWorkspaceRequest(**where)),
            stranger.UpdateWorkspace(pb.UpdateWorkspaceRequest(**where, name="x")),
            stranger.DeleteWorkspace(pb.DeleteWorkspaceRequest(**where)),
            stranger.ListMembers(pb.ListMembersRequest(**where)),
            stranger.SetMemberRole(given_role(workspace_id, stranger.id, "admin")),
            stranger.RemoveMember(pb.RemoveMemberRequest(**where, user_id=stranger.id)),
            stranger.LeaveWorkspace(pb.LeaveWorkspaceRequest(**where)),
            stranger.CreateInvite(pb.CreateInviteRequest(**where)),
            stranger.ListInvites(pb.ListInvitesRequest(**where)),
            stranger.RevokeInvite(pb.RevokeInviteRequest(**where, id=str(uuid.uuid4()))),
            stranger.CreateChannel(pb.CreateChannelRequest(**where, name="x")),
            stranger.ListChannels(pb.ListChannelsRequest(**where)),
            stranger.GetChannel(pb.GetChannelRequest(**where, id=str(uuid.uuid4()))),
            stranger.JoinChannel(pb.JoinChannelRequest(**where, id=str(uuid.uuid4()))),
        ):
            assert await reason(refused) == "WORKSPACE_NOT_FOUND"


async def test_rights_by_role(people: People) -> None:
    made, owner, (admin, member, other) = await people.in_workspace(3)
    await owner.SetMemberRole(given_role(made.id, admin.id, "admin"))
    change = pb.UpdateWorkspaceRequest(workspace_id=made.id, description="x")
    invite = pb.CreateInviteRequest(workspace_id=made.id)
    listed = pb.ListInvitesRequest(workspace_id=made.id)
    for caller, wanted in ((owner, ""), (admin, ""), (member, "PERMISSION_DENIED")):
        assert await reason(caller.UpdateWorkspace(change)) == wanted
        assert await reason(caller.CreateInvite(invite)) == wanted
        assert await reason(caller.ListInvites(listed)) == wanted
    for caller in (admin, member):
        refused = caller.SetMemberRole(given_role(made.id, other.id, "admin"))
        assert await reason(refused) == "PERMISSION_DENIED"
        closing = caller.DeleteWorkspace(pb.DeleteWorkspaceRequest(workspace_id=made.id))
        assert await reason(closing) == "PERMISSION_DENIED"
    for caller, target, wanted in (
        (member, other, "PERMISSION_DENIED"),
        (member, people.new(), "PERMISSION_DENIED"),
        (admin, owner, "PERMISSION_DENIED"),
        (owner, people.new(), "MEMBER_NOT_FOUND"),
        (owner, owner, "OWNER_CANNOT_LEAVE"),
        (admin, other, ""),
        (owner, admin, ""),
    ):
        assert await reason(removed(caller, made.id, target.id)) == wanted
    assert await owner.members(made.id) == {owner.id: "owner", member.id: "member"}


async def test_an_admin_removes_no_other_admin_but_may_go(people: People) -> None:
    made, owner, (admin, other) = await people.in_workspace(2)
    for one in (admin, other):
        await owner.SetMemberRole(given_role(made.id, one.id, "admin"))
    assert await reason(removed(admin, made.id, other.id)) == "PERMISSION_DENIED"
    assert await reason(removed(admin, made.id, admin.id)) == ""
    assert await reason(seen(admin, made.id)) == "WORKSPACE_NOT_FOUND"


async def test_there_is_one_owner_whoever_is_made_it_at_once(people: People) -> None:
    made, owner, others = await people.in_workspace(5)
    done = await asyncio.gather(
        *(reason(owner.SetMemberRole(given_role(made.id, one.id, "owner"))) for one in others)
    )
    assert sorted(done) == [""] + ["PERMISSION_DENIED"] * 4
    roles = await owner.members(made.id)
    assert sorted(roles.values()) == ["admin", "member", "member", "member", "member", "owner"]
    assert roles[owner.id] == "admin"
    assert roles[(await seen(owner, made.id)).owner_id] == "owner"


async def test_the_owner_stays_until_somebody_else_is(people: People) -> None:
    made, owner, (member,) = await people.in_workspace(1)
    assert await reason(left(owner, made.id)) == "OWNER_CANNOT_LEAVE"
    step_down = given_role(made.id, owner.id, "member")
    assert await reason(owner.SetMemberRole(step_down)) == "OWNER_CANNOT_LEAVE"
    given = await owner.SetMemberRole(given_role(made.id, member.id, "owner"))
    assert given.role == "owner"
    assert await reason(left(owner, made.id)) == ""
    assert await member.members(made.id) == {member.id: "owner"}
    assert (await seen(member, made.id)).member_count == 1


async def test_a_repeated_transfer_is_answered_though_its_sender_is_no_owner_any_more(people: People) -> None:
    made, owner, (member,) = await people.in_workspace(1)
    request = given_role(made.id, member.id, "owner", request_id=str(uuid.uuid4()))
    first = await owner.SetMemberRole(request)
    assert await owner.SetMemberRole(request) == first


async def test_one_over_each_limit_is_refused(workspace_database: Clone, pki: Pki) -> None:
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": ["127.0.0.1:1"]})
    limits = {"max_members": 3, "max_invites": 2, "max_workspaces": 2}
    app = await workspace_app(workspace_database, pki, mesh, Minter(), **QUICK, **limits)
    async with serving(app, mesh) as address, people_of(app, address, pki) as people:
        made, owner, _ = await people.in_workspace(0)
        code = (await owner.invite(made.id, uses=10)).code
        joiners = [people.new() for _ in range(10)]
        done = await asyncio.gather(*(reason(one.join(code)) for one in joiners))
        assert sorted(done) == [""] * 2 + ["WORKSPACE_FULL"] * 8
        (listed,) = (await owner.ListInvites(pb.ListInvitesRequest(workspace_id=made.id))).invites
        assert listed.uses_left == 8
        invites = await asyncio.gather(*(reason(owner.invite(made.id)) for _ in range(5)))
        assert sorted(invites) == [""] + ["TOO_MANY_INVITES"] * 4
        more = await asyncio.gather(*(reason(owner.workspace()) for _ in range(5)))
        assert sorted(more) == [""] + ["TOO_MANY_WORKSPACES"] * 4
        elsewhere, other, _ = await people.in_workspace(0)
        there = (await other.invite(elsewhere.id)).code
        assert await reason(owner.join(there)) == "TOO_MANY_WORKSPACES"


async def test_leaving_and_closing_are_told_once_in_order(
    people: People, owner_of_tables: asyncpg.Connection
) -> None:
    made, owner, (goes, is_removed) = await people.in_workspace(2)
    request_id = str(uuid.uuid4())
    await asyncio.gather(*(left(goes, made.id, request_id=request_id) for _ in range(10)))
    await removed(owner, made.id, is_removed.id)
    await owner.DeleteWorkspace(pb.DeleteWorkspaceRequest(workspace_id=made.id))
    rows = await owner_of_tables.fetch(
        "SELECT subject, aggregate_version, payload FROM outbox WHERE aggregate_id = $1 ORDER BY position",
        uuid.UUID(made.id),
    )
    assert [(row["subject"], row["aggregate_version"]) for row in rows] == [
        ("sampan.workspace.member.removed", 1),
        ("sampan.workspace.member.removed", 2),
        ("sampan.workspace.workspace.deleted", 3),
    ]
    told = [events_pb2.MemberRemoved.FromString(row["payload"]) for row in rows[:2]]
    assert [(one.user_id, one.actor_id) for one in told] == [(goes.id, goes.id), (is_removed.id, owner.id)]
    assert all(one.workspace_id == made.id and one.HasField("removed_at") for one in told)
    deleted = events_pb2.WorkspaceDeleted.FromString(rows[2]["payload"])
    assert (deleted.workspace_id, deleted.actor_id) == (made.id, owner.id)


async def test_a_closed_workspace_is_gone_for_all_and_its_slug_is_free(people: People) -> None:
    made, owner, (member,) = await people.in_workspace(1)
    code = (await owner.invite(made.id)).code
    await owner.DeleteWorkspace(pb.DeleteWorkspaceRequest(workspace_id=made.id))
    for one in (owner, member):
        assert await reason(seen(one, made.id)) == "WORKSPACE_NOT_FOUND"
        assert (await one.ListWorkspaces(pb.ListWorkspacesRequest())).total == 0
    assert await reason(people.new().join(code)) == "INVITE_NOT_FOUND"
    assert (await member.workspace(slug=made.slug)).owner_id == member.id


async def test_workspaces_are_listed_newest_first_without_gaps_or_repeats(people: People) -> None:
    person = people.new()
    made = [(await person.workspace()).id for _ in range(7)]
    await people.new().workspace()
    found: list[str] = []
    token = ""
    while True:
        page = await person.ListWorkspaces(pb.ListWorkspacesRequest(limit=3, page_token=token))
        assert page.total == 7
        assert all(one.role == "owner" and one.member_count == 1 for one in page.workspaces)
        found += [one.id for one in page.workspaces]
        token = page.next_page_token
        assert page.has_more == bool(token)
        if not token:
            break
    assert found == made[::-1]


async def test_members_are_listed_with_the_most_rights_first_then_by_time(people: People) -> None:
    made, owner, _ = await people.in_workspace(0)
    code, others = (await owner.invite(made.id, uses=11)).code, [people.new() for _ in range(11)]
    for one in others:
        await one.join(code)
    for one in (others[7], others[2]):
        await owner.SetMemberRole(given_role(made.id, one.id, "admin"))
    admins = [others[2], others[7]]
    wanted = [owner, *admins, *(one for one in others if one not in admins)]
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListMembersRequest(workspace_id=made.id, limit=2, page_token=token)
        page = await others[0].ListMembers(request)
        assert page.total == 12
        found += [one.user_id for one in page.members]
        token = page.next_page_token
        if not token:
            break
    assert found == [one.id for one in wanted]


async def test_a_page_token_counts_for_its_own_list_only(people: People) -> None:
    made, owner, _ = await people.in_workspace(1)
    await owner.workspace()
    for _ in range(2):
        await owner.invite(made.id)
    where = {"workspace_id": made.id, "limit": 1}
    members = (await owner.ListMembers(pb.ListMembersRequest(**where))).next_page_token
    invites = (await owner.ListInvites(pb.ListInvitesRequest(**where))).next_page_token
    for refused in (
        owner.ListInvites(pb.ListInvitesRequest(workspace_id=made.id, page_token=members)),
        owner.ListMembers(pb.ListMembersRequest(workspace_id=made.id, page_token=invites)),
        owner.ListWorkspaces(pb.ListWorkspacesRequest(page_token=members)),
        owner.ListChannels(pb.ListChannelsRequest(workspace_id=made.id, page_token=invites)),
    ):
        assert await reason(refused) == "INVALID_ARGUMENT"


async def test_what_is_not_given_stays(people: People) -> None:
    person = people.new()
    made = await person.workspace(description="before")
    same = await person.UpdateWorkspace(pb.UpdateWorkspaceRequest(workspace_id=made.id))
    assert same == made
    changed = await person.UpdateWorkspace(pb.UpdateWorkspaceRequest(workspace_id=made.id, description=""))
    assert (changed.name, changed.description) == (made.name, "")


async def test_the_running_role_may_do_no_more_than_it_needs(workspace_database: Clone) -> None:
    connection = await asyncpg.connect(workspace_database.runtime_url)
    try:
        for statement in (
            "DROP TABLE workspaces",
            "TRUNCATE members",
            "CREATE TABLE more (id int)",
            "UPDATE workspaces SET created_at = now()",
            "UPDATE members SET user_id = workspace_id",
            "UPDATE invites SET code_hash = ''",
            "UPDATE channels SET created_by = id",
            "UPDATE outbox SET payload = ''",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
