"""proto <-> domain for sampan.workspace.v1: workspaces, members and invites."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sampan.workspace.v1 import workspace_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.workspace.channels import Channels
from services.workspace.domain import Invite, Member, Role, Workspace, WorkspaceChanges
from services.workspace.invites import Invites
from services.workspace.service import WorkspaceService
from services.workspace.servicer_channels import ChannelMethods, changes_of, user_of

# What an invite is when nobody says otherwise; the contract states it on the fields.
_DEFAULT_USES = 1
_DEFAULT_HOURS = 72


class WorkspaceServicer(ChannelMethods):
    """Implements sampan.workspace.v1.WorkspaceService; the methods of channels are inherited."""

    def __init__(
        self, service: WorkspaceService, invites: Invites, channels: Channels, idempotency: Idempotency
    ) -> None:
        super().__init__(channels, idempotency)
        self._service = service
        self._invites = invites

    async def CreateWorkspace(self, request: pb.CreateWorkspaceRequest, call: Call) -> pb.Workspace:
        key = await self._key(request, call)
        made = await self._service.create(user_of(call), request.name, request.slug, request.description, key)
        call.created(f"/v1/workspaces/{made.id}")
        return _workspace(made)

    async def ListWorkspaces(
        self, request: pb.ListWorkspacesRequest, call: Call
    ) -> pb.ListWorkspacesResponse:
        found = await self._service.list(user_of(call), request.limit, request.page_token)
        return pb.ListWorkspacesResponse(
            workspaces=[_workspace(one) for one in found.page.items],
            next_page_token=found.page.next_page_token,
            has_more=found.page.has_more,
            total=found.total,
        )

    async def GetWorkspace(self, request: pb.GetWorkspaceRequest, call: Call) -> pb.Workspace:
        return _workspace(await self._service.get(user_of(call), UUID(request.workspace_id)))

    async def UpdateWorkspace(self, request: pb.UpdateWorkspaceRequest, call: Call) -> pb.Workspace:
        changes = WorkspaceChanges(**changes_of(request))
        key = await self._key(request, call)
        return _workspace(await self._service.update(user_of(call), UUID(request.workspace_id), changes, key))

    async def DeleteWorkspace(
        self, request: pb.DeleteWorkspaceRequest, call: Call
    ) -> pb.DeleteWorkspaceResponse:
        key = await self._key(request, call)
        await self._service.delete(user_of(call), UUID(request.workspace_id), key)
        call.answer_with(204)
        return pb.DeleteWorkspaceResponse()

    async def ListMembers(self, request: pb.ListMembersRequest, call: Call) -> pb.ListMembersResponse:
        found = await self._service.members(
            user_of(call), UUID(request.workspace_id), request.limit, request.page_token
        )
        return pb.ListMembersResponse(
            members=[_member(one) for one in found.page.items],
            next_page_token=found.page.next_page_token,
            has_more=found.page.has_more,
            total=found.total,
        )

    async def SetMemberRole(self, request: pb.SetMemberRoleRequest, call: Call) -> pb.Member:
        key = await self._key(request, call)
        workspace_id, user_id = UUID(request.workspace_id), UUID(request.user_id)
        role = Role.of(request.role)
        return _member(await self._service.set_role(user_of(call), workspace_id, user_id, role, key))

    async def RemoveMember(self, request: pb.RemoveMemberRequest, call: Call) -> pb.RemoveMemberResponse:
        key = await self._key(request, call)
        workspace_id, user_id = UUID(request.workspace_id), UUID(request.user_id)
        await self._service.remove(user_of(call), workspace_id, user_id, key)
        call.answer_with(204)
        return pb.RemoveMemberResponse()

    async def LeaveWorkspace(
        self, request: pb.LeaveWorkspaceRequest, call: Call
    ) -> pb.LeaveWorkspaceResponse:
        key = await self._key(request, call)
        await self._service.leave(user_of(call), UUID(request.workspace_id), key)
        return pb.LeaveWorkspaceResponse()

    async def CreateInvite(self, request: pb.CreateInviteRequest, call: Call) -> pb.Invite:
        key = await self._key(request, call)
        workspace_id = UUID(request.workspace_id)
        uses, life = request.uses or _DEFAULT_USES, timedelta(hours=request.hours or _DEFAULT_HOURS)
        made = await self._invites.create(user_of(call), workspace_id, uses, life, key)
        call.created(f"/v1/workspaces/{workspace_id}/invites/{made.id}")
        return _invite(made)

    async def ListInvites(self, request: pb.ListInvitesRequest, call: Call) -> pb.ListInvitesResponse:
        workspace_id = UUID(request.workspace_id)
        page = await self._invites.list(user_of(call), workspace_id, request.limit, request.page_token)
        return pb.ListInvitesResponse(
            invites=[_invite(one) for one in page.items],
            next_page_token=page.next_page_token,
            has_more=page.has_more,
        )

    async def RevokeInvite(self, request: pb.RevokeInviteRequest, call: Call) -> pb.RevokeInviteResponse:
        key = await self._key(request, call)
        workspace_id, invite_id = UUID(request.workspace_id), UUID(request.id)
        await self._invites.revoke(user_of(call), workspace_id, invite_id, key)
        call.answer_with(204)
        return pb.RevokeInviteResponse()

    async def AcceptInvite(self, request: pb.AcceptInviteRequest, call: Call) -> pb.Workspace:
        key = await self._key(request, call)
        return _workspace(await self._invites.accept(user_of(call), request.code, key))


def _workspace(workspace: Workspace) -> pb.Workspace:
    shown = pb.Workspace(
        id=str(workspace.id),
        name=workspace.name,
        slug=workspace.slug,
        description=workspace.description,
        owner_id=str(workspace.owner_id),
        member_count=workspace.member_count,
        role=workspace.role.word,
    )
    shown.created_at.FromDatetime(workspace.created_at)
    return shown


def _member(member: Member) -> pb.Member:
    shown = pb.Member(user_id=str(member.user_id), role=member.role.word)
    shown.joined_at.FromDatetime(member.joined_at)
    return shown


def _invite(invite: Invite) -> pb.Invite:
    shown = pb.Invite(
        id=str(invite.id),
        code=invite.code,
        uses_left=invite.uses_left,
        created_by=str(invite.created_by),
    )
    shown.expires_at.FromDatetime(invite.expires_at)
    shown.created_at.FromDatetime(invite.created_at)
    return shown
