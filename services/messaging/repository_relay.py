"""SQL of the relay: which dialogs have events that were not published, and these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

# One statement is one snapshot: a dialog's row and the events that it counts were committed together.
_NEXT = """
WITH wanted AS MATERIALIZED (
    SELECT d.id, greatest(coalesce(r.seq, 0), d.first_seq - 1) AS after, d.seq AS until
    FROM unnest($1::uuid[]) AS w (id) JOIN dialogs d ON d.id = w.id LEFT JOIN relayed r ON r.dialog_id = d.id
)
SELECT w.id AS dialog_id, w.until, e.* FROM wanted w CROSS JOIN LATERAL (
    (SELECT m.seq, m.sender_id AS actor_id, m.created_at, NULL::bytea AS payload, m.type, m.reply_to,
        m.thread_seq, m.mentions, m.file_ids
    FROM messages m WHERE m.dialog_id = w.id AND m.seq > w.after AND m.seq <= w.until
    ORDER BY m.seq LIMIT $2)
    UNION ALL
    (SELECT c.seq, c.actor_id, c.created_at, c.payload, NULL, NULL, NULL, NULL, NULL
    FROM changes c WHERE c.dialog_id = w.id AND c.seq > w.after AND c.seq <= w.until
    ORDER BY c.seq LIMIT $2)
    ORDER BY 1 LIMIT $2
) AS e
ORDER BY w.id, e.seq
"""
_MARK = """
INSERT INTO relayed (dialog_id, seq) SELECT * FROM unnest($1::uuid[], $2::bigint[])
ON CONFLICT (dialog_id) DO UPDATE SET seq = greatest(relayed.seq, excluded.seq)
"""
_AHEAD = """
WITH slice AS MATERIALIZED (SELECT id, seq FROM dialogs WHERE id > $1 ORDER BY id LIMIT $2)
SELECT count(*) AS looked, (array_agg(s.id ORDER BY s.id DESC))[1] AS last,
    array_agg(s.id) FILTER (WHERE s.seq > coalesce(r.seq, 0)) AS ahead
FROM slice s LEFT JOIN relayed r ON r.dialog_id = s.id
"""
_UNMARK = """
UPDATE relayed r SET seq = f.seq
FROM dialogs d CROSS JOIN LATERAL (
    SELECT greatest(
        (SELECT m.seq FROM messages m WHERE m.dialog_id = d.id AND m.created_at < $1
        ORDER BY m.seq DESC LIMIT 1),
        (SELECT c.seq FROM changes c WHERE c.dialog_id = d.id AND c.created_at < $1
        ORDER BY c.seq DESC LIMIT 1), 0) AS seq
) AS f
WHERE d.id = r.dialog_id AND d.active_at >= $1 AND f.seq < r.seq
"""
_PUBLISHED = """
SELECT EXISTS (
    SELECT FROM relayed r JOIN dialogs d ON d.id = r.dialog_id WHERE d.active_at > $1 AND r.seq > 0
)
"""
# Seconds that going through all dialogs may take.
_PATIENCE = 3600


@dataclass(frozen=True, slots=True)
class Slice:
    """Some dialogs in the order of their ids: how many were looked at, the last, those with news."""

    looked: int
    last: UUID | None
    ahead: Sequence[UUID]


async def following(
    connection: asyncpg.Connection, dialog_ids: Sequence[UUID], each: int
) -> Sequence[asyncpg.Record]:
    """The next events of dialogs, of each in their order; `until` is the number of its newest."""
    found: Sequence[asyncpg.Record] = await connection.fetch(_NEXT, dialog_ids, each)
    return found


async def mark(connection: asyncpg.Connection, heads: Mapping[UUID, int]) -> None:
    """Dialogs are published up to a number."""
    dialog_ids = sorted(heads)
    await connection.execute(_MARK, dialog_ids, [heads[one] for one in dialog_ids])


async def ahead(connection: asyncpg.Connection, after: UUID, most: int) -> Slice:
    """Which of the dialogs after an id have events that were not published."""
    row = await connection.fetchrow(_AHEAD, after, most)
    return Slice(0, None, ()) if row is None else Slice(row["looked"], row["last"], row["ahead"] or ())


async def unmark(connection: asyncpg.Connection, since: datetime) -> int:
    """All that is younger counts as not published; in how many dialogs."""
    done = await connection.execute(_UNMARK, since, timeout=_PATIENCE)
    return int(done.split()[-1])


async def has_published(connection: asyncpg.Connection, since: datetime) -> bool:
    """Whether something of a dialog that changed after a time was published."""
    return bool(await connection.fetchval(_PUBLISHED, since))
