"""proto <-> domain for the methods of channels."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from sampan.workspace.v1 import workspace_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.workspace.channels import Channels
from services.workspace.domain import Channel, ChannelChanges

# Fields of a change that change nothing.
_NOT_CHANGES = ("workspace_id", "id", "request_id")


class ChannelMethods:
    """The methods of sampan.workspace.v1.WorkspaceService that are about channels."""

    def __init__(self, channels: Channels, idempotency: Idempotency) -> None:
        self._channels = channels
        self._key = idempotency.key

    async def CreateChannel(self, request: pb.CreateChannelRequest, call: Call) -> pb.Channel:
        key = await self._key(request, call)
        given = ChannelChanges(request.name, request.description, request.is_private)
        made = await self._channels.create(user_of(call), UUID(request.workspace_id), given, key)
        call.created(f"/v1/workspaces/{made.workspace_id}/channels/{made.id}")
        return _channel(made)

    async def ListChannels(self, request: pb.ListChannelsRequest, call: Call) -> pb.ListChannelsResponse:
        workspace_id = UUID(request.workspace_id)
        found = await self._channels.list(user_of(call), workspace_id, request.limit, request.page_token)
        return pb.ListChannelsResponse(
            channels=[_channel(one) for one in found.page.items],
            next_page_token=found.page.next_page_token,
            has_more=found.page.has_more,
            total=found.total,
        )

    async def GetChannel(self, request: pb.GetChannelRequest, call: Call) -> pb.Channel:
        return _channel(await self._channels.get(user_of(call), *_where(request)))

    async def UpdateChannel(self, request: pb.UpdateChannelRequest, call: Call) -> pb.Channel:
        changes = ChannelChanges(**changes_of(request))
        key = await self._key(request, call)
        return _channel(await self._channels.update(user_of(call), *_where(request), changes, key))

    async def DeleteChannel(self, request: pb.DeleteChannelRequest, call: Call) -> pb.DeleteChannelResponse:
        key = await self._key(request, call)
        await self._channels.delete(user_of(call), *_where(request), key)
        call.answer_with(204)
        return pb.DeleteChannelResponse()

    async def JoinChannel(self, request: pb.JoinChannelRequest, call: Call) -> pb.Channel:
        key = await self._key(request, call)
        return _channel(await self._channels.join(user_of(call), *_where(request), key))

    async def LeaveChannel(self, request: pb.LeaveChannelRequest, call: Call) -> pb.LeaveChannelResponse:
        key = await self._key(request, call)
        await self._channels.leave(user_of(call), *_where(request), key)
        return pb.LeaveChannelResponse()

    async def AddToChannel(self, request: pb.AddToChannelRequest, call: Call) -> pb.AddToChannelResponse:
        key = await self._key(request, call)
        await self._channels.add(user_of(call), *_where(request), UUID(request.user_id), key)
        return pb.AddToChannelResponse()

    async def RemoveFromChannel(
        self, request: pb.RemoveFromChannelRequest, call: Call
    ) -> pb.RemoveFromChannelResponse:
        key = await self._key(request, call)
        await self._channels.remove(user_of(call), *_where(request), UUID(request.user_id), key)
        call.answer_with(204)
        return pb.RemoveFromChannelResponse()


def user_of(call: Call) -> UUID:
    """Who is signed in."""
    return UUID(call.require_user().id)


def changes_of(request: Message) -> dict[str, Any]:
    """What a request to change something gives, by field."""
    given = {field.name: value for field, value in request.ListFields()}
    return {name: value for name, value in given.items() if name not in _NOT_CHANGES}


def _where(request: Any) -> tuple[UUID, UUID]:
    """Workspace and channel of a request."""
    return UUID(request.workspace_id), UUID(request.id)


def _channel(channel: Channel) -> pb.Channel:
    shown = pb.Channel(
        id=str(channel.id),
        name=channel.name,
        description=channel.description,
        workspace_id=str(channel.workspace_id),
        is_private=channel.is_private,
        created_by=str(channel.created_by),
    )
    shown.created_at.FromDatetime(channel.created_at)
    return shown
