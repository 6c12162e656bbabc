"""SQL that forgets facts which count for nothing any more."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_PEOPLE = text("""
    SELECT DISTINCT user_id FROM facts WHERE CAST(:after AS uuid) IS NULL OR user_id > CAST(:after AS uuid)
    ORDER BY user_id LIMIT :limit
""")
# As in the rest of analytics: whoever changes figures has this lock first.
_LOCK = text("SELECT FROM totals FOR NO KEY UPDATE")
_BEFORE = text("SELECT now() - make_interval(days => :days)")
# Events of a person have no gaps, so a floor may rise as far as all of them are there and old: what comes at
# or below it has been counted.
_RAISE = text("""
    UPDATE user_stats s SET floor = o.version
    FROM (
        SELECT user_id, max(version) AS version FROM (
            SELECT f.user_id, f.version, f.counted_at,
                f.version - t.floor = row_number() OVER (PARTITION BY f.user_id ORDER BY f.version) AS whole
            FROM facts f JOIN user_stats t USING (user_id)
            WHERE f.user_id = ANY (:people) AND f.version > t.floor
        ) AS above WHERE whole AND counted_at < :before GROUP BY user_id
    ) AS o WHERE o.user_id = s.user_id
""")
_FORGET = text("SELECT forget_facts(:people, :before)")


async def people(connection: AsyncConnection, after: UUID | None, limit: int) -> Sequence[UUID]:
    """People of whom there are facts, by id, from the one after `after` on."""
    return (await connection.execute(_PEOPLE, {"after": after, "limit": limit})).scalars().all()


async def forget(connection: AsyncConnection, whose: Sequence[UUID], days: int) -> None:
    """Forgets what some people's figures do not need any more, and that is older than so many days."""
    await connection.execute(_LOCK)
    before = await connection.scalar(_BEFORE, {"days": days})
    values = {"people": list(whose), "before": before}
    await connection.execute(_RAISE, values)
    await connection.execute(_FORGET, values)
