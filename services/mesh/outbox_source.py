"""The outbox as a relay reads it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from services.mesh.relay import Acks, Row

_UNPUBLISHED = """
SELECT position, id, created_at, subject, aggregate_id, aggregate_version, payload, traceparent
FROM outbox WHERE published_at IS NULL ORDER BY position LIMIT $1
"""
_MARK = """
UPDATE outbox SET published_at = now()
WHERE published_at IS NULL AND position = ANY($1) AND created_at BETWEEN $2 AND $3
"""
_UNMARK = "UPDATE outbox SET published_at = NULL WHERE published_at IS NOT NULL AND created_at > $1"
_RECENT = "SELECT EXISTS (SELECT FROM outbox WHERE published_at > $1 AND created_at > $2)"
# Seconds that unmarking days of events may take.
_PATIENCE = 3600


class OutboxSource:
    """Rows in the order of their writing."""

    async def fetch(self, connection: asyncpg.Connection, most: int) -> tuple[Sequence[Row], bool]:
        """The oldest that are not published."""
        rows = await connection.fetch(_UNPUBLISHED, most)
        return rows, len(rows) == most

    async def mark(self, connection: asyncpg.Connection, rows: Sequence[Row], acks: Acks) -> None:
        """Remembers what was acknowledged."""
        done = [row for row, ack in zip(rows, acks, strict=True) if ack is not None]
        if done:
            times = [row["created_at"] for row in done]
            await connection.execute(_MARK, [row["position"] for row in done], min(times), max(times))

    async def unmark(self, connection: asyncpg.Connection, since: datetime) -> int:
        """What is younger is to be published again; how much that is."""
        done = await connection.execute(_UNMARK, since, timeout=_PATIENCE)
        return int(done.split()[-1])

    async def has_published(self, connection: asyncpg.Connection, since: datetime) -> bool:
        """Whether something that is younger was published."""
        return bool(await connection.fetchval(_RECENT, since, since))
