"""Who is in a workspace, and what for: the first question of each use case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.errors import PermissionDenied
from services.workspace import repository
from services.workspace.domain import Role
from services.workspace.errors import WorkspaceNotFound


@dataclass(frozen=True, slots=True)
class Seat:
    """Somebody in a workspace. `row` is the workspace with what is theirs in it."""

    row: Row[Any]
    user_id: UUID
    role: Role

    def must_manage(self) -> None:
        """Raises PermissionDenied for a plain member."""
        if not self.role.manages:
            raise PermissionDenied("this is for the owner and admins of the workspace")

    def must_own(self) -> None:
        """Raises PermissionDenied for everybody but the owner."""
        if self.role is not Role.OWNER:
            raise PermissionDenied("this is for the owner of the workspace")


async def seat(connection: AsyncConnection, workspace_id: UUID, user_id: UUID) -> Seat:
    """A person's place in a workspace. Raises WorkspaceNotFound, also when they are not in it."""
    row = await repository.workspace_of(connection, workspace_id, user_id)
    if row is None:
        raise WorkspaceNotFound
    return Seat(row, user_id, Role(row.role))


async def locked_seat(connection: AsyncConnection, workspace_id: UUID, user_id: UUID) -> Seat:
    """The same, of a workspace that nobody else changes until the end of the transaction."""
    await repository.lock_workspace(connection, workspace_id)
    # Asked after the lock is had: a statement that waited for one sees what was before.
    return await seat(connection, workspace_id, user_id)
