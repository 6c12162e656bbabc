"""What messaging consumes: who has left a workspace is in none of its channels, and a closed one has none.

Workspace says so by a call as well, at once; whichever comes first does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sampan.workspace.v1 import events_pb2
from services.mesh.consumer import Effect, Handler
from services.mesh.database import after_commit
from services.mesh.inbox import Received
from services.messaging import repository, repository_workspaces
from services.messaging.domain import Role
from services.messaging.members import take_out
from services.messaging.publishing import Publisher

CONTEXT = "workspace"
MEMBER_REMOVED = "sampan.workspace.member.removed"
WORKSPACE_DELETED = "sampan.workspace.workspace.deleted"


class WorkspaceEvents:
    """Handles the events of workspace."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """By subject."""
        return {MEMBER_REMOVED: self._member_removed, WORKSPACE_DELETED: self._workspace_deleted}

    async def _member_removed(self, event: Received) -> Effect:
        told = events_pb2.MemberRemoved.FromString(event.payload)
        user_id, actor_id = UUID(told.user_id), UUID(told.actor_id)
        removed_at = told.removed_at.ToDatetime(UTC)

        async def effect(connection: AsyncConnection) -> None:
            for dialog_id in await repository.in_workspace(connection, UUID(told.workspace_id), user_id):
                await repository.lock(connection, dialog_id)
                theirs = await repository.membership(connection, dialog_id, user_id)
                # The event may come late: who has come back since stays.
                if theirs is not None and theirs.joined_at <= removed_at:
                    await self._take_out(connection, dialog_id, actor_id, user_id, Role(theirs.role))

        return effect

    async def _take_out(
        self, connection: AsyncConnection, dialog_id: UUID, actor_id: UUID, user_id: UUID, role: Role
    ) -> None:
        live = await take_out(connection, dialog_id, actor_id, user_id, role)

        def tell() -> None:
            self._publisher.events(live)
            self._publisher.left(dialog_id, [user_id], live[0].seq)

        after_commit(connection, tell)

    async def _workspace_deleted(self, event: Received) -> Effect:
        told = events_pb2.WorkspaceDeleted.FromString(event.payload)

        async def effect(connection: AsyncConnection) -> None:
            for dialog_id in await repository_workspaces.open_channels(connection, UUID(told.workspace_id)):
                await self._close(connection, dialog_id)

        return effect

    async def _close(self, connection: AsyncConnection, dialog_id: UUID) -> None:
        dialog = await repository.lock(connection, dialog_id)
        # It may have been closed while its lock was waited for.
        if dialog is None:
            return
        gone = await repository.close(connection, dialog_id, dialog.seq)
        after_commit(connection, lambda: self._publisher.left(dialog_id, gone, dialog.seq))
