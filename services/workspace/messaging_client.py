"""Tells messaging of channels and of who is in them."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from sampan.messaging.v1 import messaging_internal_service_pb2 as pb
from sampan.messaging.v1.messaging_internal_service_pb2_grpc import MessagingInternalServiceStub
from services.mesh.channels import Peer, acting_for
from services.workspace.domain import Channel


class Messaging(Protocol):
    """What messaging is told. `change_id` is the call's `request_id`: the same change has one effect.

    All raise Unavailable or DeadlineExceeded when it is not known whether messaging has heard.
    """

    async def create_channel(self, channel: Channel, change_id: UUID) -> None:
        """Makes a channel's dialog, with its maker in it."""

    async def update_channel(self, channel: Channel, actor_id: UUID, change_id: UUID) -> None:
        """Says what a channel is called now."""

    async def delete_channel(self, channel_id: UUID, actor_id: UUID, change_id: UUID) -> None:
        """Closes a channel's dialog."""

    async def add(self, channel_id: UUID, user_id: UUID, actor_id: UUID, change_id: UUID) -> None:
        """Puts somebody into a channel. Raises NotFound, and FailedPrecondition when it is full."""

    async def remove(
        self,
        workspace_id: UUID,
        user_id: UUID,
        actor_id: UUID,
        change_id: UUID,
        channel_id: UUID | None = None,
    ) -> None:
        """Takes somebody out of a channel, or of all channels of a workspace."""


class MessagingClient:
    """Implements Messaging by calls to the messaging service, each of `timeout` seconds at most."""

    def __init__(self, messaging: Peer, timeout: float) -> None:
        self._stub = MessagingInternalServiceStub(messaging.channel)
        self._timeout = timeout

    async def create_channel(self, channel: Channel, change_id: UUID) -> None:
        request = pb.CreateChannelRequest(
            dialog_id=str(channel.id),
            workspace_id=str(channel.workspace_id),
            title=channel.name,
            description=channel.description,
            is_private=channel.is_private,
            created_by=str(channel.created_by),
            request_id=str(change_id),
        )
        with acting_for(request.created_by):
            await self._stub.CreateChannel(request, timeout=self._timeout)

    async def update_channel(self, channel: Channel, actor_id: UUID, change_id: UUID) -> None:
        request = pb.UpdateChannelRequest(
            dialog_id=str(channel.id),
            actor_id=str(actor_id),
            title=channel.name,
            description=channel.description,
            is_private=channel.is_private,
            request_id=str(change_id),
        )
        with acting_for(request.actor_id):
            await self._stub.UpdateChannel(request, timeout=self._timeout)

    async def delete_channel(self, channel_id: UUID, actor_id: UUID, change_id: UUID) -> None:
        request = pb.DeleteChannelRequest(
            dialog_id=str(channel_id), actor_id=str(actor_id), request_id=str(change_id)
        )
        with acting_for(request.actor_id):
            await self._stub.DeleteChannel(request, timeout=self._timeout)

    async def add(self, channel_id: UUID, user_id: UUID, actor_id: UUID, change_id: UUID) -> None:
        request = pb.AddToChannelRequest(
            dialog_id=str(channel_id),
            user_id=str(user_id),
            actor_id=str(actor_id),
            request_id=str(change_id),
        )
        with acting_for(request.actor_id):
            await self._stub.AddToChannel(request, timeout=self._timeout)

    async def remove(
        self,
        workspace_id: UUID,
        user_id: UUID,
        actor_id: UUID,
        change_id: UUID,
        channel_id: UUID | None = None,
    ) -> None:
        request = pb.RemoveFromChannelsRequest(
            workspace_id=str(workspace_id),
            user_id=str(user_id),
            actor_id=str(actor_id),
            dialog_id=str(channel_id or ""),
            request_id=str(change_id),
        )
        with acting_for(request.actor_id):
            await self._stub.RemoveFromChannels(request, timeout=self._timeout)
