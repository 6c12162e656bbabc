"""What workspace publishes. Events carry ids and times; whoever needs more asks for it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sampan.workspace.v1 import events_pb2 as pb
from services.mesh.clock import Clock, moment
from services.mesh.outbox import Event, Outbox
from services.workspace import repository

MEMBER_REMOVED = "sampan.workspace.member.removed"
WORKSPACE_DELETED = "sampan.workspace.workspace.deleted"


class Events:
    """Writes workspace's events, each in the transaction of what it tells, under the workspace's lock."""

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock

    async def member_removed(
        self, connection: AsyncConnection, workspace_id: UUID, user_id: UUID, actor_id: UUID
    ) -> None:
        """Somebody has left, or was removed."""
        told = pb.MemberRemoved(workspace_id=str(workspace_id), user_id=str(user_id), actor_id=str(actor_id))
        told.removed_at.FromDatetime(moment(self._clock()))
        version = await repository.next_event(connection, workspace_id)
        await self._outbox.add(connection, Event(MEMBER_REMOVED, workspace_id, version, told))

    async def workspace_deleted(
        self, connection: AsyncConnection, workspace_id: UUID, actor_id: UUID
    ) -> None:
        """It was closed, and its channels with it."""
        told = pb.WorkspaceDeleted(workspace_id=str(workspace_id), actor_id=str(actor_id))
        told.deleted_at.FromDatetime(moment(self._clock()))
        version = await repository.next_event(connection, workspace_id)
        await self._outbox.add(connection, Event(WORKSPACE_DELETED, workspace_id, version, told))
