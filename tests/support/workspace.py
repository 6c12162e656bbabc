"""People of workspaces, and messaging as far as workspace knows it, played behind the production chain."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sampan.messaging.v1 import messaging_internal_service_pb2 as messaging
from sampan.workspace.v1 import workspace_service_pb2 as pb
from sampan.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub
from services.mesh.app import App
from services.mesh.call import Call
from services.mesh.errors import NotFound, SampanError, Unavailable
from services.stack.pki import Pki
from tests.support.mesh import Minter, channel_as

MESSAGING = "sampan.messaging.v1.MessagingInternalService"
# Everything that takes time in production, quick.
QUICK: dict[str, Any] = {"tell_seconds": 1.0, "lease_seconds": 1.1, "sweep_seconds": 0.05}


@dataclass
class Dialog:
    """The dialog of a channel."""

    title: str
    owner: str
    workspace_id: str
    members: set[str]
    is_open: bool = True


@dataclass
class MessagingPlayed:
    """Keeps dialogs in memory; is away, refuses or waits as told. One change has one effect by its state."""

    dialogs: dict[str, Dialog] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    away: bool = False
    refuses: SampanError | None = None
    # Calls wait for it; those that wait are counted.
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def _heard(self, what: str, request: Any, call: Call) -> None:
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        if self.away:
            raise Unavailable
        if self.refuses is not None:
            raise self.refuses
        assert request.request_id
        self.calls.append((what, request.request_id))
        self.subjects.append(call.subject)

    def _dialog(self, dialog_id: str) -> Dialog:
        found = self.dialogs.get(dialog_id)
        if found is None or not found.is_open:
            raise _no_dialog()
        return found

    async def CreateChannel(self, request: Any, call: Call) -> messaging.CreateChannelResponse:
        await self._heard("create", request, call)
        made = Dialog(request.title, request.created_by, request.workspace_id, {request.created_by})
        self.dialogs.setdefault(request.dialog_id, made)
        return messaging.CreateChannelResponse()

    async def UpdateChannel(self, request: Any, call: Call) -> messaging.UpdateChannelResponse:
        await self._heard("update", request, call)
        self._dialog(request.dialog_id).title = request.title
        return messaging.UpdateChannelResponse()

    async def DeleteChannel(self, request: Any, call: Call) -> messaging.DeleteChannelResponse:
        await self._heard("delete", request, call)
        if found := self.dialogs.get(request.dialog_id):
            found.is_open = False
            found.members.clear()
        return messaging.DeleteChannelResponse()

    async def AddToChannel(self, request: Any, call: Call) -> messaging.AddToChannelResponse:
        await self._heard("add", request, call)
        self._dialog(request.dialog_id).members.add(request.user_id)
        return messaging.AddToChannelResponse()

    async def RemoveFromChannels(self, request: Any, call: Call) -> messaging.RemoveFromChannelsResponse:
        await self._heard("remove", request, call)
        for dialog_id, dialog in self.dialogs.items():
            if dialog.workspace_id == request.workspace_id and request.dialog_id in {"", dialog_id}:
                dialog.members.discard(request.user_id)
        return messaging.RemoveFromChannelsResponse()

    async def PostNotice(self, request: Any, call: Call) -> messaging.PostNoticeResponse:
        raise AssertionError("workspace has nothing to post")

    async def FilterContacts(self, request: Any, call: Call) -> messaging.FilterContactsResponse:
        raise AssertionError("workspace asks for no contacts")


def _no_dialog() -> SampanError:
    error = NotFound("there is no such dialog")
    error.reason, error.domain = "DIALOG_NOT_FOUND", "sampan.messaging"
    return error


@dataclass(frozen=True)
class Caller:
    """Somebody with a token. Attributes are the methods of the service."""

    stub: Any
    id: str
    token: str

    def __getattr__(self, method: str) -> Any:
        def call(request: Any) -> Awaitable[Any]:
            return getattr(self.stub, method)(request, metadata=[("authorization", f"Bearer {self.token}")])  # type: ignore[no-any-return]

        return call

    async def workspace(self, **fields: str) -> pb.Workspace:
        """Makes a workspace."""
        given = {"name": "Durian", "slug": slug(), **fields}
        made: pb.Workspace = await self.CreateWorkspace(pb.CreateWorkspaceRequest(**given))
        return made

    async def invite(self, workspace_id: str, **fields: Any) -> pb.Invite:
        """Makes an invite."""
        request = pb.CreateInviteRequest(workspace_id=workspace_id, **fields)
        made: pb.Invite = await self.CreateInvite(request)
        return made

    async def join(self, code: str, **fields: str) -> pb.Workspace:
        """Joins by a code."""
        joined: pb.Workspace = await self.AcceptInvite(pb.AcceptInviteRequest(code=code, **fields))
        return joined

    async def channel(self, workspace_id: str, **fields: Any) -> pb.Channel:
        """Makes a channel."""
        given = {"name": "c" + secrets.token_hex(6), **fields}
        request = pb.CreateChannelRequest(workspace_id=workspace_id, **given)
        made: pb.Channel = await self.CreateChannel(request)
        return made

    async def channels(self, workspace_id: str) -> list[str]:
        """Names of the channels that they see."""
        answer = await self.ListChannels(pb.ListChannelsRequest(workspace_id=workspace_id, limit=100))
        assert answer.total == len(answer.channels)
        return [one.name for one in answer.channels]

    async def members(self, workspace_id: str) -> dict[str, str]:
        """Roles of all members by their ids."""
        answer = await self.ListMembers(pb.ListMembersRequest(workspace_id=workspace_id, limit=100))
        assert answer.total == len(answer.members)
        return {one.user_id: one.role for one in answer.members}


@dataclass(frozen=True)
class People:
    """Makes callers."""

    stub: WorkspaceServiceStub
    minter: Minter

    def new(self) -> Caller:
        """Somebody new."""
        user_id = str(uuid.uuid4())
        return Caller(self.stub, user_id, self.minter.token(user_id))

    async def in_workspace(self, count: int) -> tuple[pb.Workspace, Caller, list[Caller]]:
        """A workspace, its owner, and so many members."""
        owner = self.new()
        made = await owner.workspace()
        others = [self.new() for _ in range(count)]
        if others:
            code = (await owner.invite(made.id, uses=count)).code
            await asyncio.gather(*(one.join(code) for one in others))
        return made, owner, others


def slug() -> str:
    """A slug that no other test uses."""
    return "w-" + secrets.token_hex(8)


@asynccontextmanager
async def people_of(app: App, address: str, pki: Pki) -> AsyncIterator[People]:
    """People who call a workspace service."""
    async with channel_as("edge", address, "workspace", pki) as channel:
        yield People(WorkspaceServiceStub(channel), Minter.of(app))


def given_role(workspace_id: str, user_id: str, role: str, **more: str) -> pb.SetMemberRoleRequest:
    """A request to give somebody a role."""
    return pb.SetMemberRoleRequest(workspace_id=workspace_id, user_id=user_id, role=role, **more)


def channel_request(kind: Any, channel: pb.Channel, **more: str) -> Any:
    """A request about a channel."""
    return kind(workspace_id=channel.workspace_id, id=channel.id, **more)
