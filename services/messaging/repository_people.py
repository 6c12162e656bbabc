"""SQL of what is between people: how far they have read, blocks, reports, whom they know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.messaging.domain import Block, NewReport, Report
from services.messaging.repository import UNREAD

_READ = text("""
    UPDATE members m SET read_seq = x.seq, read_no = x.message_no
    FROM messages x
    WHERE m.dialog_id = :dialog_id AND m.user_id = :user_id AND m.left_seq IS NULL AND m.read_seq < :seq
        AND x.dialog_id = m.dialog_id AND x.seq = :seq
""")
_MARK = text(f"""
    SELECT m.read_seq, d.member_count, {UNREAD} AS unread
    FROM members m JOIN dialogs d ON d.id = m.dialog_id
    WHERE m.dialog_id = :dialog_id AND m.user_id = :user_id AND m.left_seq IS NULL
""")  # noqa: S608 - made of constants
_BLOCKED_IN = text("""
    SELECT EXISTS (
        SELECT FROM members o JOIN blocks b ON (b.blocker = o.user_id AND b.blocked = :user_id)
            OR (b.blocker = :user_id AND b.blocked = o.user_id)
        WHERE o.dialog_id = :dialog_id
    )
""")
_BLOCKED_AMONG = text("""
    SELECT EXISTS (SELECT FROM blocks WHERE blocker = :user_id AND blocked = ANY (CAST(:others AS uuid[])))
        OR EXISTS (SELECT FROM blocks WHERE blocked = :user_id AND blocker = ANY (CAST(:others AS uuid[])))
""")
_BLOCK = text("""
    INSERT INTO blocks (blocker, blocked) VALUES (:blocker, :blocked) ON CONFLICT DO NOTHING
""")
_BLOCK_OF = text("SELECT blocked, created_at FROM blocks WHERE blocker = :blocker AND blocked = :blocked")
_UNBLOCK = text("DELETE FROM blocks WHERE blocker = :blocker AND blocked = :blocked")
_BLOCKS = """
    SELECT blocked, created_at FROM blocks WHERE blocker = :blocker {after}
    ORDER BY created_at DESC, blocked DESC LIMIT :limit
"""
_BLOCKS_FIRST = text(_BLOCKS.format(after=""))
_BLOCKS_AFTER = text(_BLOCKS.format(after="AND (created_at, blocked) < (:created_at, :blocked)"))
_REPORT = text("""
    INSERT INTO reports (id, reporter_id, dialog_id, seq, sender_id, category, comment, text)
    VALUES (:id, :reporter_id, :dialog_id, :seq, :sender_id, :category, :comment, :text)
    ON CONFLICT ON CONSTRAINT reports_message_key DO NOTHING
""")
_REPORTED = text("""
    SELECT id FROM reports WHERE reporter_id = :reporter_id AND dialog_id = :dialog_id AND seq = :seq
""")
_REPORTS = """
    SELECT id, dialog_id, seq, sender_id, reporter_id, category, comment, text, created_at
    FROM reports {before}
    ORDER BY id DESC LIMIT :limit
"""
_REPORTS_FIRST = text(_REPORTS.format(before=""))
_REPORTS_BEFORE = text(_REPORTS.format(before="WHERE id < :before"))
_CONTACTS = text("""
    SELECT o.user_id FROM (SELECT DISTINCT u AS user_id FROM unnest(CAST(:others AS uuid[])) AS u) AS o
    WHERE EXISTS (
        SELECT FROM members theirs JOIN members mine ON mine.dialog_id = theirs.dialog_id
        WHERE theirs.user_id = o.user_id AND theirs.left_seq IS NULL
            AND mine.user_id = :user_id AND mine.left_seq IS NULL
    ) AND NOT EXISTS (SELECT FROM blocks b WHERE b.blocker = o.user_id AND b.blocked = :user_id)
""")
_DROP = text("SELECT last_id, looked, dropped FROM drop_expired(:after, :days, :dialogs, :events)")


async def mark_read(connection: AsyncConnection, dialog_id: UUID, user_id: UUID, seq: int) -> bool:
    """Moves somebody's mark to a message; False when it stood there or further on."""
    values = {"dialog_id": dialog_id, "user_id": user_id, "seq": seq}
    return (await connection.execute(_READ, values)).rowcount == 1


async def mark(connection: AsyncConnection, dialog_id: UUID, user_id: UUID) -> Row[Any] | None:
    """Where somebody's mark stands and what is unread; None when they are not in the dialog."""
    values = {"dialog_id": dialog_id, "user_id": user_id}
    return (await connection.execute(_MARK, values)).one_or_none()


async def blocked_in(connection: AsyncConnection, dialog_id: UUID, user_id: UUID) -> bool:
    """Whether one of a direct dialog has blocked the other."""
    values = {"dialog_id": dialog_id, "user_id": user_id}
    return bool(await connection.scalar(_BLOCKED_IN, values))


async def blocked_among(connection: AsyncConnection, user_id: UUID, others: Sequence[UUID]) -> bool:
    """Whether there is a block between somebody and any of the others."""
    return bool(await connection.scalar(_BLOCKED_AMONG, {"user_id": user_id, "others": list(others)}))


async def block(connection: AsyncConnection, blocker: UUID, blocked: UUID) -> Block:
    """Blocks somebody; the block of then when there is one."""
    values = {"blocker": blocker, "blocked": blocked}
    await connection.execute(_BLOCK, values)
    row = (await connection.execute(_BLOCK_OF, values)).one()
    return Block(row.blocked, row.created_at)


async def unblock(connection: AsyncConnection, blocker: UUID, blocked: UUID) -> None:
    """Takes a block back."""
    await connection.execute(_UNBLOCK, {"blocker": blocker, "blocked": blocked})


async def blocks(
    connection: AsyncConnection, blocker: UUID, limit: int, after: tuple[datetime, UUID] | None
) -> list[Block]:
    """Whom somebody has blocked, newest first."""
    values: dict[str, object] = {"blocker": blocker, "limit": limit}
    if after is not None:
        values |= {"created_at": after[0], "blocked": after[1]}
    statement = _BLOCKS_FIRST if after is None else _BLOCKS_AFTER
    return [Block(row.blocked, row.created_at) for row in await connection.execute(statement, values)]


async def report(connection: AsyncConnection, given: NewReport) -> UUID:
    """Keeps a report; returns its id, or that of the one which the reporter made of the message before."""
    values = asdict(given)
    await connection.execute(_REPORT, values)
    where = {name: values[name] for name in ("reporter_id", "dialog_id", "seq")}
    found: UUID = (await connection.execute(_REPORTED, where)).scalar_one()
    return found


async def reports(connection: AsyncConnection, limit: int, before: UUID | None) -> list[Report]:
    """Reports, newest first."""
    if before is None:
        rows = await connection.execute(_REPORTS_FIRST, {"limit": limit})
    else:
        rows = await connection.execute(_REPORTS_BEFORE, {"limit": limit, "before": before})
    return [
        Report(
            NewReport(*(getattr(row, name.name) for name in fields(NewReport))),
            row.created_at,
        )
        for row in rows
    ]


async def contacts(connection: AsyncConnection, user_id: UUID, others: Sequence[UUID]) -> list[UUID]:
    """Those who share a dialog with somebody and have not blocked them."""
    found = await connection.execute(_CONTACTS, {"user_id": user_id, "others": list(others)})
    return [row.user_id for row in found]


async def drop_expired(
    connection: AsyncConnection, after: UUID, days: int, dialogs: int, events: int
) -> tuple[UUID, int, int]:
    """Drops old events of some dialogs; the last of them, how many were looked at, how many events went."""
    values = {"after": after, "days": days, "dialogs": dialogs, "events": events}
    row = (await connection.execute(_DROP, values)).one()
    return row.last_id, row.looked, row.dropped
