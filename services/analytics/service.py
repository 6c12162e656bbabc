"""Use cases of analytics: add what an event says, show figures. Transactions open here."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.analytics import repository
from services.analytics.domain import Fact, Figures, Totals, Viewer
from services.mesh.database import Database
from services.mesh.errors import PermissionDenied


class StatisticsService:
    """Figures of bills."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, connection: AsyncConnection, fact: Fact) -> None:
        """Adds what an event says, in the transaction of its consumer."""
        await repository.fold(connection, fact)

    async def totals(self) -> Totals:
        """Figures of all."""
        async with self._database.reading() as connection:
            return await repository.totals(connection)

    async def of_user(self, viewer: Viewer, user_id: UUID) -> Figures:
        """Figures of one person. Raises PermissionDenied."""
        if not viewer.may_see(user_id):
            raise PermissionDenied("these figures are somebody else's")
        async with self._database.reading() as connection:
            return await repository.of_user(connection, user_id)
