"""All SQL of presence."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from sqlalchemy import Row, any_, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PGUUID
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.presence.domain import Changes, Preferences
from services.presence.models import preferences


def _by_user(rows: Collection[Row[Any]]) -> dict[UUID, Preferences]:
    return {row.user_id: Preferences(row.last_seen_hidden, row.invisible) for row in rows}


async def preferences_of(connection: AsyncConnection, users: Collection[UUID]) -> dict[UUID, Preferences]:
    """Preferences of those who have changed any."""
    ids = literal(list(users), ARRAY(PGUUID(as_uuid=True)))
    found = await connection.execute(select(preferences).where(preferences.c.user_id == any_(ids)))
    return _by_user(found.all())


async def changed_within(connection: AsyncConnection, seconds: float) -> dict[UUID, Preferences]:
    """Preferences that were changed in the last seconds, by the clock of the database."""
    since = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    found = await connection.execute(select(preferences).where(preferences.c.updated_at > since))
    return _by_user(found.all())


async def change_preferences(connection: AsyncConnection, user_id: UUID, changes: Changes) -> None:
    """Changes what is given."""
    given = changes.given
    await connection.execute(
        upsert(preferences)
        .values(user_id=user_id, **given)
        .on_conflict_do_update(
            index_elements=[preferences.c.user_id], set_={**given, "updated_at": func.clock_timestamp()}
        )
    )
