"""SQL of messaging about workspaces."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_OPEN = text("SELECT id FROM dialogs WHERE workspace_id = :id AND closed_at IS NULL ORDER BY id")


async def open_channels(connection: AsyncConnection, workspace_id: UUID) -> list[UUID]:
    """The channels of a workspace that are not closed, in the order in which they are locked."""
    return [row.id for row in await connection.execute(_OPEN, {"id": workspace_id})]
