"""All SQL of analytics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.analytics.domain import Fact, Figures, Known, Totals

# Whoever changes figures has this lock first, so that nobody waits for somebody who waits for them; what they
# ask then sees all that was changed before.
_LOCK = text("SELECT FROM totals FOR NO KEY UPDATE")
# A fact that is there adds nothing, nor does one that a snapshot has brought.
_FOLD = text("""
    WITH fact AS (
        INSERT INTO facts (user_id, version, transactions, amount, paid)
        VALUES (:user_id, :version, :transactions, :amount, :paid) ON CONFLICT DO NOTHING
        RETURNING user_id, version, transactions, amount, paid
    ), added AS (
        INSERT INTO user_stats AS s (user_id, transactions, amount, paid, events)
        SELECT user_id, transactions, amount, paid, 1 FROM fact
        ON CONFLICT (user_id) DO UPDATE SET transactions = s.transactions + excluded.transactions,
            amount = s.amount + excluded.amount, paid = s.paid + excluded.paid, events = s.events + 1
        WHERE s.floor < :version
        RETURNING s.events = 1 AND s.floor = 0 AS is_new
    )
    UPDATE totals SET transactions = totals.transactions + fact.transactions,
        amount = totals.amount + fact.amount, paid = totals.paid + fact.paid, events = totals.events + 1,
        users = totals.users + added.is_new::int
    FROM fact, added
""")
_TOTALS = text("SELECT transactions, amount, paid, events, users FROM totals")
_OF_USER = text("SELECT transactions, amount, paid, events FROM user_stats WHERE user_id = :user_id")

_WANTED = text("""
    SELECT wanted_at FROM rebuilds WHERE done_for IS NULL OR done_for < wanted_at
""")
_ASK = text("""
    INSERT INTO rebuilds DEFAULT VALUES
    ON CONFLICT ("only") DO UPDATE SET wanted_at = greatest(clock_timestamp(), rebuilds.wanted_at)
    RETURNING wanted_at
""")
_DONE = text("SELECT coalesce(bool_or(done_for >= :wanted_at), false) FROM rebuilds")
_COLLECT = text("""
    INSERT INTO snapshots (run, user_id, transactions, amount, paid, events)
    VALUES (:run, :user_id, :transactions, :amount, :paid, :events)
""")
# One statement takes as long as it takes: events wait meanwhile, and nothing else does.
_PATIENCE = text("SET LOCAL statement_timeout = 0")
_CLEAR = text("DELETE FROM user_stats")
# What payment said, and what events added that came after that.
_FILL = text("""
    INSERT INTO user_stats (user_id, floor, transactions, amount, paid, events)
    SELECT user_id, coalesce(s.events, 0), coalesce(s.transactions, 0) + coalesce(f.transactions, 0),
        coalesce(s.amount, 0) + coalesce(f.amount, 0), coalesce(s.paid, 0) + coalesce(f.paid, 0),
        coalesce(s.events, 0) + coalesce(f.events, 0)
    FROM (SELECT * FROM snapshots WHERE run = :run) AS s
    FULL JOIN (
        SELECT x.user_id, sum(x.transactions)::bigint AS transactions, sum(x.amount)::bigint AS amount,
            sum(x.paid)::bigint AS paid, count(*) AS events
        FROM facts x LEFT JOIN snapshots y ON y.run = :run AND y.user_id = x.user_id
        WHERE x.version > coalesce(y.events, 0) GROUP BY x.user_id
    ) AS f USING (user_id)
""")
_SUM_UP = text("""
    UPDATE totals SET transactions = s.transactions, amount = s.amount, paid = s.paid, events = s.events,
        users = s.users
    FROM (
        SELECT coalesce(sum(transactions), 0) AS transactions, coalesce(sum(amount), 0) AS amount,
            coalesce(sum(paid), 0) AS paid, coalesce(sum(events), 0) AS events, count(*) AS users
        FROM user_stats
    ) AS s
""")
_COLLECTED = text("SELECT count(*) FROM snapshots WHERE run = :run")
_FORGET = text("DELETE FROM snapshots")
_FINISH = text("UPDATE rebuilds SET done_for = :wanted_at")


async def fold(connection: AsyncConnection, fact: Fact) -> None:
    """Adds what an event says, once, however often it comes."""
    await connection.execute(_LOCK)
    await connection.execute(_FOLD, asdict(fact))


async def totals(connection: AsyncConnection) -> Totals:
    """Figures of all."""
    row = (await connection.execute(_TOTALS)).one()
    return Totals(_figures(row), row.users)


async def of_user(connection: AsyncConnection, user_id: UUID) -> Figures:
    """Figures of one person; of nothing for somebody who is not known."""
    row = (await connection.execute(_OF_USER, {"user_id": user_id})).one_or_none()
    return Figures() if row is None else _figures(row)


async def wanted(connection: AsyncConnection) -> datetime | None:
    """Since when a rebuild is wanted; None when none is."""
    found: datetime | None = await connection.scalar(_WANTED)
    return found


async def ask(connection: AsyncConnection) -> datetime:
    """Has all of it rebuilt; returns what to ask `is_done` for."""
    found: datetime = (await connection.execute(_ASK)).scalar_one()
    return found


async def is_done(connection: AsyncConnection, wanted_at: datetime) -> bool:
    """Whether what was wanted then is rebuilt."""
    return bool(await connection.scalar(_DONE, {"wanted_at": wanted_at}))


async def collect(connection: AsyncConnection, run: UUID, known: Sequence[Known]) -> None:
    """Keeps a part of what payment says, for one rebuild."""
    rows = [{"run": run, "user_id": one.user_id, **asdict(one.figures)} for one in known]
    await connection.execute(_COLLECT, rows)


async def rebuild(connection: AsyncConnection, run: UUID, people: int, wanted_at: datetime) -> bool:
    """Puts what was collected of so many people, and what came after it, in place of what is there.

    False, and nothing done, when another rebuild has come to its end meanwhile.
    """
    await connection.execute(_PATIENCE)
    # Who adds waits from here on.
    await connection.execute(_LOCK)
    if await connection.scalar(_COLLECTED, {"run": run}) != people:
        return False
    await connection.execute(_CLEAR)
    await connection.execute(_FILL, {"run": run})
    await connection.execute(_SUM_UP)
    # Of this rebuild and of all others, also of those that died.
    await connection.execute(_FORGET)
    await connection.execute(_FINISH, {"wanted_at": wanted_at})
    return True


def _figures(row: Row[Any]) -> Figures:
    return Figures(row.transactions, row.amount, row.paid, row.events)
