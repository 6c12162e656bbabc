"""proto <-> domain: dialogs and their members."""

from __future__ import annotations

from uuid import UUID

from sampan.messaging.v1 import dialog_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.messaging import dialogs
from services.messaging import servicer_shapes as shapes
from services.messaging.dialogs import DialogService
from services.messaging.members import MemberService


class DialogMethods:
    """Methods of sampan.messaging.v1.MessagingService."""

    def __init__(self, dialogs_: DialogService, members: MemberService, idempotency: Idempotency) -> None:
        self._dialogs = dialogs_
        self._members = members
        self._key = idempotency.key

    async def CreateDialog(self, request: pb.CreateDialogRequest, call: Call) -> dialog_pb2.Dialog:
        people = [UUID(one) for one in request.participants]
        new = dialogs.wanted(shapes.user_of(call), people, request.title, request.kind)
        shown, made = await self._dialogs.create(new, await self._key(request, call))
        if made:
            call.created(f"/v1/dialogs/{shown.id}")
        return shapes.dialog(shown)

    async def ListDialogs(self, request: pb.ListDialogsRequest, call: Call) -> pb.ListDialogsResponse:
        found = await self._dialogs.list(shapes.user_of(call), request.limit, request.page_token)
        return pb.ListDialogsResponse(
            dialogs=[shapes.dialog(one) for one in found.page.items],
            next_page_token=found.page.next_page_token,
            has_more=found.page.has_more,
            total=found.total,
        )

    async def GetDialog(self, request: pb.GetDialogRequest, call: Call) -> dialog_pb2.Dialog:
        return shapes.dialog(await self._dialogs.get(shapes.user_of(call), UUID(request.dialog_id)))

    async def UpdateDialog(self, request: pb.UpdateDialogRequest, call: Call) -> dialog_pb2.Dialog:
        shown = await self._dialogs.update(
            shapes.user_of(call),
            UUID(request.dialog_id),
            request.title if request.HasField("title") else None,
            request.description if request.HasField("description") else None,
            await self._key(request, call),
        )
        return shapes.dialog(shown)

    async def MuteDialog(self, request: pb.MuteDialogRequest, call: Call) -> dialog_pb2.Dialog:
        shown = await self._dialogs.mute(
            shapes.user_of(call),
            UUID(request.dialog_id),
            muted=request.muted,
            key=await self._key(request, call),
        )
        return shapes.dialog(shown)

    async def ListMembers(self, request: pb.ListMembersRequest, call: Call) -> pb.ListMembersResponse:
        found = await self._members.page(
            shapes.user_of(call), UUID(request.dialog_id), request.limit, request.page_token
        )
        return pb.ListMembersResponse(
            members=[shapes.member(one, found.total) for one in found.page.items],
            next_page_token=found.page.next_page_token,
            has_more=found.page.has_more,
            total=found.total,
        )

    async def AddMember(self, request: pb.AddMemberRequest, call: Call) -> dialog_pb2.Member:
        shown, among = await self._members.add(
            shapes.user_of(call),
            UUID(request.dialog_id),
            UUID(request.user_id),
            shapes.ROLES[request.role],
            await self._key(request, call),
        )
        call.created(f"/v1/dialogs/{UUID(request.dialog_id)}/members/{shown.user_id}")
        return shapes.member(shown, among)

    async def RemoveMember(self, request: pb.RemoveMemberRequest, call: Call) -> pb.RemoveMemberResponse:
        await self._members.remove(
            shapes.user_of(call),
            UUID(request.dialog_id),
            UUID(request.user_id),
            await self._key(request, call),
        )
        call.answer_with(204)
        return pb.RemoveMemberResponse()

    async def SetMemberRole(self, request: pb.SetMemberRoleRequest, call: Call) -> dialog_pb2.Member:
        shown, among = await self._members.set_role(
            shapes.user_of(call),
            UUID(request.dialog_id),
            UUID(request.user_id),
            shapes.ROLES[request.role],
            await self._key(request, call),
        )
        return shapes.member(shown, among)

    async def LeaveDialog(self, request: pb.LeaveDialogRequest, call: Call) -> pb.LeaveDialogResponse:
        await self._members.leave(
            shapes.user_of(call), UUID(request.dialog_id), await self._key(request, call)
        )
        return pb.LeaveDialogResponse()
