"""SQL of messages: reading them, changing and deleting them, reactions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.messaging.domain import Edit, Message, Reaction

# Of messages x; named so that they can stand next to columns of a dialog.
COLUMNS = """x.dialog_id AS message_dialog, x.seq AS message_seq, x.sender_id, x.client_message_id, x.type,
    x.text, x.attributes::text AS attributes, x.reply_to, x.thread_seq, x.reply_count, x.file_ids, x.mentions,
    x.created_at AS written_at, x.edited_at, x.deleted_at"""

_ONE = text(f"""
    SELECT {COLUMNS}, x.message_no, m.role, d.kind
    FROM messages x
    JOIN members m ON m.dialog_id = x.dialog_id AND m.user_id = :user_id AND m.left_seq IS NULL
    JOIN dialogs d ON d.id = x.dialog_id
    WHERE x.dialog_id = :dialog_id AND x.seq = :seq AND x.seq >= m.joined_seq
""")  # noqa: S608 - made of constants
_OWN = text(f"""
    SELECT {COLUMNS} FROM messages x
    WHERE x.dialog_id = :dialog_id AND x.seq = :seq AND x.sender_id = :user_id
""")  # noqa: S608 - made of constants
_PAGE = """
    SELECT {columns} FROM messages x
    WHERE x.dialog_id = :dialog_id AND x.seq > :after AND x.seq < :before {thread}
    ORDER BY x.seq {order} LIMIT :limit
"""
_PAGES = {
    (threaded, newest): text(
        _PAGE.format(
            columns=COLUMNS,
            thread="AND x.thread_seq = :thread" if threaded else "",
            order="DESC" if newest else "",
        )
    )
    for threaded in (False, True)
    for newest in (False, True)
}
_DROPPED = text("""
    SELECT dialog_id, seq, sender_id, client_message_id, created_at, dropped_at FROM spent_ids
    WHERE dialog_id = :dialog_id AND sender_id = :sender_id AND client_message_id = :client_message_id
""")
_REACTIONS = text("""
    SELECT r.dialog_id, r.seq, r.emoji, count(*) AS people, bool_or(r.user_id = :viewer) AS mine
    FROM unnest(CAST(:dialogs AS uuid[]), CAST(:seqs AS bigint[])) AS g (dialog_id, seq)
    JOIN reactions r ON r.dialog_id = g.dialog_id AND r.seq = g.seq
    GROUP BY r.dialog_id, r.seq, r.emoji ORDER BY r.dialog_id, r.seq, min(r.created_at), r.emoji
""")
_KEPT = text("""
    SELECT u.id FROM unnest(CAST(:mentions AS uuid[])) WITH ORDINALITY AS u (id, place)
    JOIN members m ON m.dialog_id = :dialog_id AND m.user_id = u.id AND m.left_seq IS NULL
    WHERE u.id <> :sender_id ORDER BY u.place
""")
_KEEP_EDIT = text("""
    INSERT INTO edits (dialog_id, seq, edit_no, text, replaced_at)
    SELECT x.dialog_id, x.seq,
        1 + (SELECT count(*) FROM edits e WHERE e.dialog_id = x.dialog_id AND e.seq = x.seq),
        x.text, d.active_at
    FROM messages x JOIN dialogs d ON d.id = x.dialog_id WHERE x.dialog_id = :dialog_id AND x.seq = :seq
""")
_EDIT = text("""
    UPDATE messages x SET text = :text, mentions = CAST(:mentions AS uuid[]), edited_at = d.active_at
    FROM dialogs d WHERE x.dialog_id = :dialog_id AND x.seq = :seq AND d.id = x.dialog_id
""")
_UNCALL = text("""
    DELETE FROM mentions
    WHERE dialog_id = :dialog_id AND seq = :seq AND user_id <> ALL (CAST(:mentions AS uuid[]))
""")
_CALL = text("""
    INSERT INTO mentions (user_id, dialog_id, seq, message_no)
    SELECT u, :dialog_id, :seq, :message_no FROM unnest(CAST(:mentions AS uuid[])) AS u ON CONFLICT DO NOTHING
""")
_EDITS = text("""
    SELECT text, replaced_at FROM edits WHERE dialog_id = :dialog_id AND seq = :seq
    ORDER BY edit_no DESC LIMIT :limit
""")
_DELETE = text("""
    UPDATE messages x SET text = '', attributes = NULL, file_ids = NULL, mentions = NULL,
        deleted_at = d.active_at
    FROM dialogs d WHERE x.dialog_id = :dialog_id AND x.seq = :seq AND d.id = x.dialog_id
""")
_ERASE = text("SELECT erase_message(:dialog_id, :seq)")
_UNCOUNT = text("""
    UPDATE messages SET reply_count = reply_count - 1 WHERE dialog_id = :dialog_id AND seq = :thread
""")
_EMOJI = text("""
    SELECT count(DISTINCT emoji) AS different, coalesce(bool_or(emoji = :emoji), false) AS known,
        coalesce(bool_or(emoji = :emoji AND user_id = :user_id), false) AS mine
    FROM reactions WHERE dialog_id = :dialog_id AND seq = :seq
""")
_REACT = text("""
    INSERT INTO reactions (dialog_id, seq, user_id, emoji) VALUES (:dialog_id, :seq, :user_id, :emoji)
""")
_UNREACT = text("""
    DELETE FROM reactions
    WHERE dialog_id = :dialog_id AND seq = :seq AND user_id = :user_id AND emoji = :emoji
""")

Where = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """A message that somebody may see; `role` is theirs and `kind` the dialog's, as they are stored."""

    message: Message
    message_no: int
    role: int
    kind: int


def _place(where: Where, **more: object) -> dict[str, object]:
    return {"dialog_id": where[0], "seq": where[1], **more}


def message(row: Row[Any], under: Sequence[Reaction]) -> Message:
    """A message of a row with COLUMNS."""
    return Message(
        dialog_id=row.message_dialog,
        seq=row.message_seq,
        sender_id=row.sender_id,
        client_message_id=row.client_message_id,
        created_at=row.written_at,
        type=row.type,
        text=row.text,
        attributes=None if row.attributes is None else json.loads(row.attributes),
        reply_to=row.reply_to,
        thread_seq=row.thread_seq,
        reply_count=row.reply_count,
        file_ids=row.file_ids,
        mentions=row.mentions,
        edited_at=row.edited_at,
        deleted_at=row.deleted_at,
        reactions=under,
    )


async def seen(connection: AsyncConnection, where: Where, user_id: UUID) -> Seen | None:
    """A message with its reactions, as somebody sees it; None when they may not."""
    row = (await connection.execute(_ONE, _place(where, user_id=user_id))).one_or_none()
    if row is None:
        return None
    found = await reactions(connection, [where], user_id)
    return Seen(message(row, found.get(where, ())), row.message_no, row.role, row.kind)


async def of_sender(connection: AsyncConnection, where: Where, sender_id: UUID) -> Message | None:
    """One's own message, also in a dialog that one has left; None when it is no more."""
    row = (await connection.execute(_OWN, _place(where, user_id=sender_id))).one_or_none()
    if row is None:
        return None
    found = await reactions(connection, [where], sender_id)
    return message(row, found.get(where, ()))


async def page(
    connection: AsyncConnection,
    dialog_id: UUID,
    viewer: UUID,
    *,
    after: int,
    before: int,
    limit: int,
    thread: int | None,
    newest: bool,
) -> list[Message]:
    """Messages with numbers between two, at most `limit`: the newest or the oldest first."""
    values: dict[str, object] = {"dialog_id": dialog_id, "after": after, "before": before, "limit": limit}
    if thread is not None:
        values["thread"] = thread
    rows = (await connection.execute(_PAGES[thread is not None, newest], values)).all()
    found = await reactions(connection, [(dialog_id, row.message_seq) for row in rows], viewer)
    return [message(row, found.get((dialog_id, row.message_seq), ())) for row in rows]


async def dropped(
    connection: AsyncConnection, dialog_id: UUID, sender_id: UUID, client_message_id: str
) -> Message | None:
    """What is left of a message that was dropped by age: that it was."""
    values = {"dialog_id": dialog_id, "sender_id": sender_id, "client_message_id": client_message_id}
    row = (await connection.execute(_DROPPED, values)).one_or_none()
    if row is None:
        return None
    return Message(
        row.dialog_id,
        row.seq,
        row.sender_id,
        row.client_message_id,
        row.created_at,
        deleted_at=row.dropped_at,
    )


async def reactions(
    connection: AsyncConnection, where: Sequence[Where], viewer: UUID
) -> dict[Where, list[Reaction]]:
    """What is under messages, by message; nothing for those without."""
    found: dict[Where, list[Reaction]] = {}
    if where:
        values = {"dialogs": [one[0] for one in where], "seqs": [one[1] for one in where], "viewer": viewer}
        for row in await connection.execute(_REACTIONS, values):
            under = found.setdefault((row.dialog_id, row.seq), [])
            under.append(Reaction(row.emoji, row.people, row.mine))
    return found


async def in_dialog(
    connection: AsyncConnection, dialog_id: UUID, sender_id: UUID, mentions: Sequence[UUID]
) -> list[UUID]:
    """Those among mentioned people who are in a dialog, without the sender."""
    if not mentions:
        return []
    values = {"dialog_id": dialog_id, "sender_id": sender_id, "mentions": list(mentions)}
    return [row.id for row in await connection.execute(_KEPT, values)]


async def edit(
    connection: AsyncConnection,
    where: Where,
    message_no: int,
    body: str,
    mentions: Sequence[UUID],
) -> None:
    """Changes a message and keeps what it said, at the time of its dialog's newest event."""
    called = list(mentions)
    await connection.execute(_KEEP_EDIT, _place(where))
    await connection.execute(_EDIT, _place(where, text=body, mentions=called or None))
    await connection.execute(_UNCALL, _place(where, mentions=called))
    if called:
        await connection.execute(_CALL, _place(where, mentions=called, message_no=message_no))


async def edits(connection: AsyncConnection, where: Where, limit: int) -> list[Edit]:
    """What a message said before, newest first."""
    found = await connection.execute(_EDITS, _place(where, limit=limit))
    return [Edit(row.text, row.replaced_at) for row in found]


async def delete(connection: AsyncConnection, where: Where, thread: int | None) -> None:
    """Deletes a message with all that it said, at the time of its dialog's newest event."""
    await connection.execute(_DELETE, _place(where))
    await connection.execute(_ERASE, _place(where))
    if thread is not None:
        await connection.execute(_UNCOUNT, {"dialog_id": where[0], "thread": thread})


async def emoji(connection: AsyncConnection, where: Where, user_id: UUID, one: str) -> Row[Any]:
    """How many different emoji there are under a message, and whether this one is, and is somebody's."""
    return (await connection.execute(_EMOJI, _place(where, user_id=user_id, emoji=one))).one()


async def react(connection: AsyncConnection, where: Where, user_id: UUID, one: str) -> None:
    """Puts an emoji under a message."""
    await connection.execute(_REACT, _place(where, user_id=user_id, emoji=one))


async def unreact(connection: AsyncConnection, where: Where, user_id: UUID, one: str) -> bool:
    """Takes an emoji away; False when there was none."""
    done = await connection.execute(_UNREACT, _place(where, user_id=user_id, emoji=one))
    return done.rowcount == 1
