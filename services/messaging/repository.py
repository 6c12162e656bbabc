"""SQL of dialogs and their members. Others: repository_*.py."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.messaging.domain import Dialog, Kind, Member, Reaction, Role
from services.messaging.repository_messages import COLUMNS, message, reactions

# Of dialogs d and their members m. Exact, never stored, so it cannot drift: all messages after the mark but
# deleted ones of others, and notices in one's own name; own texts move the mark.
UNREAD = """(
    greatest(d.message_no - greatest(m.read_no, d.dropped_no), 0)
    - (SELECT count(*) FROM messages x WHERE x.dialog_id = d.id AND x.message_no > m.read_no
        AND x.deleted_at IS NOT NULL AND x.sender_id <> m.user_id)
    - (SELECT count(*) FROM messages x WHERE x.dialog_id = d.id AND x.sender_id = m.user_id
        AND x.message_no > m.read_no AND x.type <> 'text')
)"""
_MENTIONED = """(
    SELECT count(*) FROM mentions t WHERE t.user_id = m.user_id AND t.dialog_id = d.id AND t.seq > m.read_seq
)"""
# Where the mark of somebody stands who joins: nothing is unread.
_NEWEST = "coalesce((SELECT max(x.seq) FROM messages x WHERE x.dialog_id = :dialog_id), 0)"

_LOCK = text("""
    SELECT id, kind, title, description, workspace_id, is_private, seq, message_no, member_count
    FROM dialogs WHERE id = :dialog_id AND closed_at IS NULL FOR NO KEY UPDATE
""")
_MEMBERSHIP = text("""
    SELECT m.user_id, m.role, m.joined_at, m.joined_seq, m.read_seq, d.kind, d.seq, d.member_count
    FROM members m JOIN dialogs d ON d.id = m.dialog_id
    WHERE m.dialog_id = :dialog_id AND m.user_id = :user_id AND m.left_seq IS NULL
""")
_INSERT = text("""
    INSERT INTO dialogs (id, kind, title, description, workspace_id, is_private, direct_key, created_by)
    VALUES (:id, :kind, :title, :description, :workspace_id, :is_private, :direct_key, :created_by)
    ON CONFLICT DO NOTHING
""")
_DIRECT = text("SELECT id FROM dialogs WHERE direct_key = :key")
_DIRECTS = text("SELECT direct_key, id FROM dialogs WHERE direct_key = ANY (CAST(:keys AS bytea[]))")
_ADVANCE = text("""
    UPDATE dialogs SET seq = seq + :events, member_count = member_count + :members,
        active_at = greatest(active_at, clock_timestamp())
    WHERE id = :dialog_id RETURNING seq, active_at
""")
_CHANGE = text("""
    INSERT INTO changes (dialog_id, seq, actor_id, kind, message_seq, payload, created_at)
    VALUES (:dialog_id, :seq, :actor_id, :kind, :message_seq, :payload, :at)
""")
_ENTER = text(f"""
    INSERT INTO members (dialog_id, user_id, role, joined_seq, inviter, read_seq, read_no)
    SELECT :dialog_id, u, :role, :joined_seq, :inviter, {_NEWEST}, :read_no
    FROM unnest(CAST(:users AS uuid[])) AS u
    ON CONFLICT (dialog_id, user_id) DO UPDATE SET role = excluded.role, joined_seq = excluded.joined_seq,
        joined_at = now(), left_seq = NULL, inviter = excluded.inviter, muted = false,
        read_seq = greatest(members.read_seq, excluded.read_seq),
        read_no = greatest(members.read_no, excluded.read_no)
""")  # noqa: S608 - made of constants
_LEAVE = text("UPDATE members SET left_seq = :seq WHERE dialog_id = :dialog_id AND user_id = :user_id")
_CLOSE_MEMBERS = text("""
    UPDATE members SET left_seq = :seq WHERE dialog_id = :dialog_id AND left_seq IS NULL RETURNING user_id
""")
_CLOSE = text("UPDATE dialogs SET closed_at = now(), member_count = 0 WHERE id = :dialog_id")
_ROLE = text("UPDATE members SET role = :role WHERE dialog_id = :dialog_id AND user_id = :user_id")
_MUTE = text("UPDATE members SET muted = :muted WHERE dialog_id = :dialog_id AND user_id = :user_id")
_DESCRIBE = text("""
    UPDATE dialogs SET title = :title, description = :description, is_private = :is_private
    WHERE id = :dialog_id
""")
_HEIR = text("""
    SELECT user_id FROM members WHERE dialog_id = :dialog_id AND left_seq IS NULL
    ORDER BY role DESC, joined_at, user_id LIMIT 1
""")
_IN_WORKSPACE = text("""
    SELECT d.id FROM members m JOIN dialogs d ON d.id = m.dialog_id
    WHERE m.user_id = :user_id AND m.left_seq IS NULL AND d.workspace_id = :workspace_id ORDER BY d.id
""")
_MINE = text("""
    SELECT d.id, d.active_at FROM members m JOIN dialogs d ON d.id = m.dialog_id
    WHERE m.user_id = :user_id AND m.left_seq IS NULL ORDER BY d.active_at DESC, d.id DESC
""")
_SHOWN = text(f"""
    SELECT d.id, d.kind, d.title, d.description, d.workspace_id, d.is_private, d.created_by,
        d.created_at AS made_at, d.active_at, d.member_count, d.seq AS last_seq, d.first_seq, m.read_seq,
        m.muted, m.role,
        {UNREAD} AS unread, {_MENTIONED} AS mentioned, newest.*
    FROM members m JOIN dialogs d ON d.id = m.dialog_id
    LEFT JOIN LATERAL (
        SELECT {COLUMNS} FROM messages x
        WHERE x.dialog_id = d.id AND x.seq >= m.joined_seq AND x.deleted_at IS NULL
        ORDER BY x.seq DESC LIMIT 1
    ) AS newest ON true
    WHERE m.user_id = :user_id AND m.left_seq IS NULL AND m.dialog_id = ANY (CAST(:ids AS uuid[]))
""")  # noqa: S608 - made of constants
_FIRST_MEMBERS = text("""
    SELECT g.id AS dialog_id, m.user_id, m.role, m.joined_at, m.read_seq
    FROM unnest(CAST(:ids AS uuid[])) AS g (id) CROSS JOIN LATERAL (
        SELECT * FROM members WHERE members.dialog_id = g.id AND members.left_seq IS NULL
        ORDER BY members.role DESC, members.joined_at, members.user_id LIMIT :most
    ) AS m
""")
_RANKED = """
    SELECT user_id, role, joined_at, read_seq FROM members
    WHERE dialog_id = :dialog_id AND left_seq IS NULL {after}
    ORDER BY role DESC, joined_at, user_id LIMIT :limit
"""
_RANKED_FIRST = text(_RANKED.format(after=""))
_RANKED_AFTER = text(
    _RANKED.format(
        after="AND role <= :role AND (role < :role OR (joined_at, user_id) > (:joined_at, :user_id))"
    )
)


async def _one(connection: AsyncConnection, statement: Any, **values: object) -> Row[Any] | None:
    return (await connection.execute(statement, values)).one_or_none()


async def lock(connection: AsyncConnection, dialog_id: UUID) -> Row[Any] | None:
    """A dialog that nobody else changes until the end of the transaction; None when there is none.

    What is asked of other tables must be asked in later statements: this one saw them as they were before.
    """
    return await _one(connection, _LOCK, dialog_id=dialog_id)


async def membership(connection: AsyncConnection, dialog_id: UUID, user_id: UUID) -> Row[Any] | None:
    """What somebody is in a dialog, with what it is; None when they are not in it."""
    return await _one(connection, _MEMBERSHIP, dialog_id=dialog_id, user_id=user_id)


async def insert_dialog(
    connection: AsyncConnection,
    dialog_id: UUID,
    kind: Kind,
    created_by: UUID,
    *,
    title: str = "",
    description: str = "",
    workspace_id: UUID | None = None,
    is_private: bool = False,
    direct_key: bytes | None = None,
) -> bool:
    """Makes a dialog; False when it is there, waiting for whoever is just making it."""
    values = {
        "id": dialog_id,
        "kind": kind.value,
        "title": title,
        "description": description,
        "workspace_id": workspace_id,
        "is_private": is_private,
        "direct_key": direct_key,
        "created_by": created_by,
    }
    return (await connection.execute(_INSERT, values)).rowcount == 1


async def direct_dialog(connection: AsyncConnection, key: bytes) -> UUID | None:
    """The direct dialog of two people, or None."""
    found: UUID | None = await connection.scalar(_DIRECT, {"key": key})
    return found


async def direct_dialogs(connection: AsyncConnection, keys: Sequence[bytes]) -> dict[bytes, UUID]:
    """The direct dialogs that there are of some."""
    found = await connection.execute(_DIRECTS, {"keys": list(keys)})
    return {row.direct_key: row.id for row in found}


async def advance(
    connection: AsyncConnection, dialog_id: UUID, events: int, members: int = 0
) -> tuple[int, datetime]:
    """Numbers for so many events: the last of them, and their time. `members` is how many more there are."""
    values = {"dialog_id": dialog_id, "events": events, "members": members}
    row = (await connection.execute(_ADVANCE, values)).one()
    return row.seq, row.active_at


async def insert_changes(connection: AsyncConnection, rows: Sequence[dict[str, object]]) -> None:
    """Writes events into the log."""
    await connection.execute(_CHANGE, rows)


async def enter(
    connection: AsyncConnection,
    dialog_id: UUID,
    users: Sequence[UUID],
    *,
    role: Role,
    joined_seq: int,
    inviter: UUID,
    read_no: int,
) -> None:
    """Puts people into a dialog, also those who were in it before."""
    values = {
        "dialog_id": dialog_id,
        "users": list(users),
        "role": role.value,
        "joined_seq": joined_seq,
        "inviter": inviter,
        "read_no": read_no,
    }
    await connection.execute(_ENTER, values)


async def leave(connection: AsyncConnection, dialog_id: UUID, user_id: UUID, seq: int) -> None:
    """Takes somebody out of a dialog; event `seq` says so."""
    await connection.execute(_LEAVE, {"dialog_id": dialog_id, "user_id": user_id, "seq": seq})


async def close(connection: AsyncConnection, dialog_id: UUID, seq: int) -> list[UUID]:
    """Takes all out of a dialog for ever; returns who they were."""
    found = await connection.execute(_CLOSE_MEMBERS, {"dialog_id": dialog_id, "seq": seq})
    await connection.execute(_CLOSE, {"dialog_id": dialog_id})
    return [row.user_id for row in found]


async def set_role(connection: AsyncConnection, dialog_id: UUID, user_id: UUID, role: Role) -> None:
    """Gives a member a role."""
    await connection.execute(_ROLE, {"dialog_id": dialog_id, "user_id": user_id, "role": role.value})


async def set_muted(connection: AsyncConnection, dialog_id: UUID, user_id: UUID, *, muted: bool) -> None:
    """Whether a member wants no notifications."""
    await connection.execute(_MUTE, {"dialog_id": dialog_id, "user_id": user_id, "muted": muted})


async def describe(
    connection: AsyncConnection, dialog_id: UUID, title: str, description: str, *, is_private: bool
) -> None:
    """What a dialog is called."""
    values = {"dialog_id": dialog_id, "title": title, "description": description, "is_private": is_private}
    await connection.execute(_DESCRIBE, values)


async def heir(connection: AsyncConnection, dialog_id: UUID) -> UUID | None:
    """Who comes next when the owner has left: the oldest admin, or else the oldest member."""
    found: UUID | None = await connection.scalar(_HEIR, {"dialog_id": dialog_id})
    return found


async def in_workspace(connection: AsyncConnection, workspace_id: UUID, user_id: UUID) -> list[UUID]:
    """The channels of a workspace that somebody is in."""
    found = await connection.execute(_IN_WORKSPACE, {"workspace_id": workspace_id, "user_id": user_id})
    return [row.id for row in found]


async def dialogs_of(connection: AsyncConnection, user_id: UUID) -> Sequence[Row[Any]]:
    """Ids and times of all dialogs that somebody is in, those with the newest event first."""
    return (await connection.execute(_MINE, {"user_id": user_id})).all()


async def shown(
    connection: AsyncConnection, user_id: UUID, ids: Sequence[UUID], most_members: int
) -> dict[UUID, Dialog]:
    """Dialogs as one of their members sees them, each with at most so many members."""
    rows = (await connection.execute(_SHOWN, {"user_id": user_id, "ids": list(ids)})).all()
    people: dict[UUID, list[Member]] = {row.id: [] for row in rows}
    values = {"ids": list(people), "most": most_members}
    for row in await connection.execute(_FIRST_MEMBERS, values):
        people[row.dialog_id].append(member(row))
    newest = [(row.id, row.message_seq) for row in rows if row.message_seq is not None]
    found = await reactions(connection, newest, user_id)
    return {row.id: _dialog(row, people[row.id], found.get((row.id, row.message_seq), ())) for row in rows}


async def ranked(
    connection: AsyncConnection, dialog_id: UUID, limit: int, after: tuple[Role, datetime, UUID] | None
) -> list[Member]:
    """Members, those with the most rights first, then by time."""
    values: dict[str, object] = {"dialog_id": dialog_id, "limit": limit}
    if after is not None:
        values |= {"role": after[0].value, "joined_at": after[1], "user_id": after[2]}
    statement = _RANKED_FIRST if after is None else _RANKED_AFTER
    return [member(row) for row in await connection.execute(statement, values)]


def member(row: Row[Any]) -> Member:
    """Somebody in a dialog."""
    return Member(row.user_id, Role(row.role), row.joined_at, row.read_seq)


def _dialog(row: Row[Any], people: list[Member], under_newest: Sequence[Reaction]) -> Dialog:
    return Dialog(
        id=row.id,
        kind=Kind(row.kind),
        title=row.title,
        description=row.description,
        workspace_id=row.workspace_id,
        is_private=row.is_private,
        created_by=row.created_by,
        created_at=row.made_at,
        active_at=row.active_at,
        members=people,
        member_count=row.member_count,
        last_message=None if row.message_seq is None else message(row, under_newest),
        seq=row.last_seq,
        first_seq=row.first_seq,
        read_seq=row.read_seq,
        unread=row.unread,
        mentioned=row.mentioned,
        muted=row.muted,
        role=Role(row.role),
    )
