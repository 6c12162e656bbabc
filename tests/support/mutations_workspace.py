"""Prepared requests for the RPCs of workspace that change something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from google.protobuf.message import Message

from sampan.workspace.v1 import workspace_service_pb2 as pb
from tests.support.mutation import Mutation, World, sender
from tests.support.workspace import Caller, channel_request, given_role, slug

WORKSPACES = "(SELECT count(*) FROM workspaces)"
RENAMED = "(SELECT count(*) FROM workspaces WHERE name = 'B')"
MEMBERS = "(SELECT count(*) FROM members)"
ADMINS = "(SELECT count(*) FROM members WHERE role = 2)"
INVITES = "(SELECT count(*) FROM invites)"
USES = "(SELECT sum(uses_left) FROM invites)"
REVOKED = "(SELECT count(*) FROM invites WHERE revoked_at IS NOT NULL)"
CHANNELS = "(SELECT count(*) FROM channels WHERE state = 2)"
RENAMED_CHANNELS = "(SELECT count(*) FROM channels WHERE name = 'B')"
IN_CHANNELS = "(SELECT count(*) FROM channel_members WHERE state = 2)"
EVENTS = "(SELECT count(*) FROM outbox)"

Request = tuple[Caller, Message]


def mutation(
    world: World, name: str, effects: dict[str, int], one: Request, other: Request, elsewhere: Request
) -> Mutation:
    """The request, another of the same person, and one of somebody else."""
    method = getattr(world.workspaces.stub, name)
    mine, another, theirs = (sender(method, request, who.token) for who, request in (one, other, elsewhere))
    return Mutation(mine, world.workspace_owner, effects, another, theirs)


async def two(world: World, members: int = 1) -> tuple[tuple[str, Caller, list[Caller]], ...]:
    """Two workspaces, each with its owner and members."""
    found = [await world.workspaces.in_workspace(members) for _ in range(2)]
    return tuple((made.id, owner, others) for made, owner, others in found)


async def create_workspace(world: World) -> Mutation:
    me, you = world.workspaces.new(), world.workspaces.new()
    one, other, elsewhere = (pb.CreateWorkspaceRequest(name="A", slug=slug()) for _ in range(3))
    effects = {WORKSPACES: 1, MEMBERS: 1}
    return mutation(world, "CreateWorkspace", effects, (me, one), (me, other), (you, elsewhere))


async def update_workspace(world: World) -> Mutation:
    (mine, me, _), (theirs, you, _) = await two(world, 0)

    def to(workspace_id: str, name: str) -> pb.UpdateWorkspaceRequest:
        return pb.UpdateWorkspaceRequest(workspace_id=workspace_id, name=name)

    requests = ((me, to(mine, "B")), (me, to(mine, "C")), (you, to(theirs, "B")))
    return mutation(world, "UpdateWorkspace", {RENAMED: 1}, *requests)


async def delete_workspace(world: World) -> Mutation:
    (mine, me, _), (theirs, you, _) = await two(world, 0)
    request = pb.DeleteWorkspaceRequest
    effects = {WORKSPACES: -1, MEMBERS: -1, EVENTS: 1}
    return mutation(
        world,
        "DeleteWorkspace",
        effects,
        (me, request(workspace_id=mine)),
        (me, request(workspace_id=theirs)),
        (you, request(workspace_id=theirs)),
    )


async def set_member_role(world: World) -> Mutation:
    (mine, me, (friend, other)), (theirs, you, (stranger, _)) = await two(world, 2)
    return mutation(
        world,
        "SetMemberRole",
        {ADMINS: 1},
        (me, given_role(mine, friend.id, "admin")),
        (me, given_role(mine, other.id, "admin")),
        (you, given_role(theirs, stranger.id, "admin")),
    )


async def remove_member(world: World) -> Mutation:
    (mine, me, (friend, other)), (theirs, you, (stranger, _)) = await two(world, 2)
    request = pb.RemoveMemberRequest
    return mutation(
        world,
        "RemoveMember",
        {MEMBERS: -1, EVENTS: 1},
        (me, request(workspace_id=mine, user_id=friend.id)),
        (me, request(workspace_id=mine, user_id=other.id)),
        (you, request(workspace_id=theirs, user_id=stranger.id)),
    )


async def leave_workspace(world: World) -> Mutation:
    (mine, _, (me,)), (theirs, _, (you,)) = await two(world)
    request = pb.LeaveWorkspaceRequest
    return mutation(
        world,
        "LeaveWorkspace",
        {MEMBERS: -1, EVENTS: 1},
        (me, request(workspace_id=mine)),
        (me, request(workspace_id=theirs)),
        (you, request(workspace_id=theirs)),
    )


async def create_invite(world: World) -> Mutation:
    (mine, me, _), (theirs, you, _) = await two(world, 0)
    request = pb.CreateInviteRequest
    return mutation(
        world,
        "CreateInvite",
        {INVITES: 1, USES: 5},
        (me, request(workspace_id=mine, uses=5)),
        (me, request(workspace_id=mine, uses=6)),
        (you, request(workspace_id=theirs, uses=5)),
    )


async def revoke_invite(world: World) -> Mutation:
    (mine, me, _), (theirs, you, _) = await two(world, 0)
    first, second, third = await me.invite(mine), await me.invite(mine), await you.invite(theirs)
    request = pb.RevokeInviteRequest
    return mutation(
        world,
        "RevokeInvite",
        {REVOKED: 1},
        (me, request(workspace_id=mine, id=first.id)),
        (me, request(workspace_id=mine, id=second.id)),
        (you, request(workspace_id=theirs, id=third.id)),
    )


async def accept_invite(world: World) -> Mutation:
    (mine, owner, _), (theirs, other, _) = await two(world, 0)
    me, you = world.workspaces.new(), world.workspaces.new()
    code, another = (await owner.invite(mine, uses=9)).code, (await other.invite(theirs, uses=9)).code
    request = pb.AcceptInviteRequest
    requests = ((me, request(code=code)), (me, request(code=another)), (you, request(code=code)))
    return mutation(world, "AcceptInvite", {MEMBERS: 1, USES: -1}, *requests)


async def create_channel(world: World) -> Mutation:
    (mine, me, _), (theirs, you, _) = await two(world, 0)
    request = pb.CreateChannelRequest
    return mutation(
        world,
        "CreateChannel",
        {CHANNELS: 1, IN_CHANNELS: 1},
        (me, request(workspace_id=mine, name="A")),
        (me, request(workspace_id=mine, name="A", is_private=True)),
        (you, request(workspace_id=theirs, name="A")),
    )


async def with_channels(world: World) -> tuple[tuple[pb.Channel, Caller, Caller], ...]:
    """A channel in each of two workspaces, its maker, and a member of the workspace who is not in it."""
    return tuple(
        [(await owner.channel(where), owner, others[0]) for where, owner, others in await two(world)]
    )


async def update_channel(world: World) -> Mutation:
    (mine, me, _), (theirs, you, _) = await with_channels(world)
    return mutation(
        world,
        "UpdateChannel",
        {RENAMED_CHANNELS: 1},
        (me, channel_request(pb.UpdateChannelRequest, mine, name="B")),
        (me, channel_request(pb.UpdateChannelRequest, mine, name="C")),
        (you, channel_request(pb.UpdateChannelRequest, theirs, name="B")),
    )


async def delete_channel(world: World) -> Mutation:
    (mine, me, _), (theirs, you, _) = await with_channels(world)
    requests = [channel_request(pb.DeleteChannelRequest, one) for one in (mine, theirs, theirs)]
    effects = {CHANNELS: -1, IN_CHANNELS: -1}
    return mutation(world, "DeleteChannel", effects, *zip((me, me, you), requests, strict=True))


async def join_channel(world: World) -> Mutation:
    (mine, _, me), (theirs, _, you) = await with_channels(world)
    requests = [channel_request(pb.JoinChannelRequest, one) for one in (mine, theirs, theirs)]
    return mutation(world, "JoinChannel", {IN_CHANNELS: 1}, *zip((me, me, you), requests, strict=True))


async def leave_channel(world: World) -> Mutation:
    (mine, me, _), (theirs, you, _) = await with_channels(world)
    requests = [channel_request(pb.LeaveChannelRequest, one) for one in (mine, theirs, theirs)]
    return mutation(world, "LeaveChannel", {IN_CHANNELS: -1}, *zip((me, me, you), requests, strict=True))


async def add_to_channel(world: World) -> Mutation:
    (mine, me, friend), (theirs, you, stranger) = await with_channels(world)
    return mutation(
        world,
        "AddToChannel",
        {IN_CHANNELS: 1},
        (me, channel_request(pb.AddToChannelRequest, mine, user_id=friend.id)),
        (me, channel_request(pb.AddToChannelRequest, mine, user_id=stranger.id)),
        (you, channel_request(pb.AddToChannelRequest, theirs, user_id=stranger.id)),
    )


async def remove_from_channel(world: World) -> Mutation:
    (mine, me, friend), (theirs, you, stranger) = await with_channels(world)
    for owner, channel, who in ((me, mine, friend), (you, theirs, stranger)):
        await owner.AddToChannel(channel_request(pb.AddToChannelRequest, channel, user_id=who.id))
    return mutation(
        world,
        "RemoveFromChannel",
        {IN_CHANNELS: -1},
        (me, channel_request(pb.RemoveFromChannelRequest, mine, user_id=friend.id)),
        (me, channel_request(pb.RemoveFromChannelRequest, mine, user_id=me.id)),
        (you, channel_request(pb.RemoveFromChannelRequest, theirs, user_id=stranger.id)),
    )


WORKSPACE: dict[str, Callable[[World], Awaitable[Mutation]]] = {
    "WorkspaceService/CreateWorkspace": create_workspace,
    "WorkspaceService/UpdateWorkspace": update_workspace,
    "WorkspaceService/DeleteWorkspace": delete_workspace,
    "WorkspaceService/SetMemberRole": set_member_role,
    "WorkspaceService/RemoveMember": remove_member,
    "WorkspaceService/LeaveWorkspace": leave_workspace,
    "WorkspaceService/CreateInvite": create_invite,
    "WorkspaceService/RevokeInvite": revoke_invite,
    "WorkspaceService/AcceptInvite": accept_invite,
    "WorkspaceService/CreateChannel": create_channel,
    "WorkspaceService/UpdateChannel": update_channel,
    "WorkspaceService/DeleteChannel": delete_channel,
    "WorkspaceService/JoinChannel": join_channel,
    "WorkspaceService/LeaveChannel": leave_channel,
    "WorkspaceService/AddToChannel": add_to_channel,
    "WorkspaceService/RemoveFromChannel": remove_from_channel,
}
