"""All SQL of live delivery: who is in which dialogs, what happened there, and where devices are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.messaging.v1 import frame_pb2, message_pb2
from services.messaging.domain import SMALL, message_id
from services.messaging.events import with_attributes
from services.messaging.publishing import LiveEvent
from services.messaging.repository import UNREAD


class Reader(Protocol):
    """A database whose statements stand alone."""

    async def fetch(self, statement: str, *values: Any) -> Sequence[Any]:
        """One statement that only reads. Raises Unavailable."""
        ...

    async def call(self, statement: str, *values: Any) -> Sequence[Any]:
        """One statement that changes something. Raises Unavailable or OutcomeUnknown."""
        ...


@dataclass(frozen=True, slots=True)
class Membership:
    """A dialog that somebody is in. Times in seconds since the epoch, by the database's clock."""

    dialog_id: UUID
    joined_seq: int
    joined_at: float
    read_seq: int
    unread: int
    last_seq: int
    active_at: float
    is_small: bool


@dataclass(frozen=True, slots=True)
class Memberships:
    """All dialogs of somebody, and when that was true."""

    at: float
    dialogs: tuple[Membership, ...]


_MEMBERSHIPS = f"""
SELECT m.user_id, m.dialog_id, m.joined_seq, extract(epoch FROM m.joined_at)::float8 AS joined_at, m.read_seq,
    d.seq AS last_seq, extract(epoch FROM d.active_at)::float8 AS active_at, d.member_count,
    {UNREAD} AS unread
FROM members m JOIN dialogs d ON d.id = m.dialog_id
WHERE m.user_id = ANY ($1::uuid[]) AND m.left_seq IS NULL AND d.closed_at IS NULL
"""  # noqa: S608 - made of constants
_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8 AS now"

_HEADS = "SELECT id, seq FROM dialogs WHERE id = ANY ($1::uuid[])"

# Of each span as much as goes into a few pieces; at least one event.
_EVENTS = """
SELECT found.* FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS s (dialog_id, after, until)
CROSS JOIN LATERAL (
    SELECT e.*, sum(e.size) OVER (ORDER BY e.seq) - e.size AS before FROM (
        (SELECT m.dialog_id, m.seq, m.sender_id AS actor_id, m.created_at, NULL::bytea AS payload,
            m.type, m.text, m.attributes::text AS attributes, m.client_message_id, m.reply_to, m.thread_seq,
            m.reply_count, m.file_ids, m.mentions, m.edited_at, m.deleted_at, 300 + length(m.text) AS size
        FROM messages m WHERE m.dialog_id = s.dialog_id AND m.seq > s.after AND m.seq <= s.until
        ORDER BY m.seq LIMIT 512)
        UNION ALL
        (SELECT c.dialog_id, c.seq, c.actor_id, c.created_at, c.payload,
            x.type, x.text, x.attributes::text, x.client_message_id, NULL, NULL,
            0, x.file_ids, x.mentions, x.edited_at, x.deleted_at, 150 + coalesce(length(x.text), 0)
        FROM changes c LEFT JOIN messages x
            ON c.kind = $4 AND x.dialog_id = c.dialog_id AND x.seq = c.message_seq
        WHERE c.dialog_id = s.dialog_id AND c.seq > s.after AND c.seq <= s.until
        ORDER BY c.seq LIMIT 512)
        ORDER BY 2 LIMIT 512
    ) AS e
) AS found
WHERE found.before < 200000
ORDER BY found.dialog_id, found.seq
"""

# The newest event before a time, from the newest on: as many steps as events are missed.
_FLOORS = """
SELECT s.dialog_id, greatest(
    (SELECT m.seq FROM messages m WHERE m.dialog_id = s.dialog_id AND m.created_at < s.at
    ORDER BY m.seq DESC LIMIT 1),
    (SELECT c.seq FROM changes c WHERE c.dialog_id = s.dialog_id AND c.created_at < s.at
    ORDER BY c.seq DESC LIMIT 1), 0) AS seq
FROM unnest($1::uuid[], $2::float8[]) AS g (dialog_id, stamp)
CROSS JOIN LATERAL (SELECT g.dialog_id, to_timestamp(g.stamp) AS at) AS s
"""

_PARTED = """
SELECT m.dialog_id, m.user_id, coalesce(m.left_seq, d.seq) AS left_seq
FROM unnest($1::uuid[], $2::uuid[]) AS g (user_id, dialog_id)
JOIN members m ON m.dialog_id = g.dialog_id AND m.user_id = g.user_id
JOIN dialogs d ON d.id = m.dialog_id
WHERE m.left_seq IS NOT NULL OR d.closed_at IS NOT NULL
"""

_RECEIPTS = """
SELECT dialog_id, user_id, read_seq FROM members
WHERE dialog_id = ANY ($1::uuid[]) AND left_seq IS NULL AND read_seq > 0 AND user_id <> $2
"""

_KEEP = """
INSERT INTO devices (user_id, device_id, resume, stamp)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bigint[])
ON CONFLICT (user_id, device_id) DO UPDATE
SET resume = excluded.resume, stamp = excluded.stamp, updated_at = now()
WHERE devices.stamp < excluded.stamp
"""

_DEVICE = "SELECT resume FROM devices WHERE user_id = $1 AND device_id = $2"

# Tokens as old as that are good for nothing; and nobody has so many devices.
_FORGET = """
DELETE FROM devices d USING (
    SELECT user_id, device_id, updated_at,
        row_number() OVER (PARTITION BY user_id ORDER BY stamp DESC) AS place
    FROM devices
) AS o
WHERE d.user_id = o.user_id AND d.device_id = o.device_id
AND (o.updated_at < now() - make_interval(days => $1) OR o.place > $2)
"""

# Who shares a small dialog with some people, by dialog; nobody where one has blocked the other.
_SHARED = """
SELECT m.user_id, m.dialog_id FROM members m JOIN dialogs d ON d.id = m.dialog_id
WHERE m.user_id = ANY ($1::uuid[]) AND m.left_seq IS NULL AND d.member_count <= $2 AND d.closed_at IS NULL
"""
_BLOCKS = """
SELECT blocker, blocked FROM blocks WHERE blocker = ANY ($1::uuid[])
UNION SELECT blocker, blocked FROM blocks WHERE blocked = ANY ($1::uuid[])
"""


class LiveRepository:
    """What live delivery reads, and the positions of devices, which it writes."""

    def __init__(self, database: Reader) -> None:
        self._database = database

    async def memberships(self, user_ids: Sequence[UUID]) -> dict[UUID, Memberships]:
        """All dialogs of people. The time is from before the look."""
        # A statement of its own: a look may take long, and its time must not be later than what it saw.
        now = (await self._database.fetch(_NOW))[0]["now"]
        found: dict[UUID, list[Membership]] = {user_id: [] for user_id in user_ids}
        for row in await self._database.fetch(_MEMBERSHIPS, user_ids):
            found[row["user_id"]].append(
                Membership(
                    row["dialog_id"],
                    row["joined_seq"],
                    row["joined_at"],
                    row["read_seq"],
                    row["unread"],
                    row["last_seq"],
                    row["active_at"],
                    row["member_count"] <= SMALL,
                )
            )
        return {user_id: Memberships(now, tuple(dialogs)) for user_id, dialogs in found.items()}

    async def heads(self, dialog_ids: Sequence[UUID]) -> list[tuple[UUID, int]]:
        """Number of the newest event of dialogs."""
        return [(row["id"], row["seq"]) for row in await self._database.fetch(_HEADS, dialog_ids)]

    async def events(self, spans: Sequence[tuple[UUID, int, int]]) -> list[LiveEvent]:
        """The next events after some, up to some: of each span at least one, and not more than fits."""
        rows = await self._database.fetch(
            _EVENTS,
            [dialog for dialog, _, _ in spans],
            [after for _, after, _ in spans],
            [until for _, _, until in spans],
            frame_pb2.Event.MESSAGE_EDITED_FIELD_NUMBER,
        )
        return [LiveEvent(row["dialog_id"], row["seq"], _event(row)) for row in rows]

    async def floors(self, wanted: Sequence[tuple[UUID, float]]) -> dict[UUID, int]:
        """Number of the newest event of dialogs before a time, in seconds since the epoch; 0 for none."""
        rows = await self._database.fetch(
            _FLOORS, [dialog for dialog, _ in wanted], [stamp for _, stamp in wanted]
        )
        return {row["dialog_id"]: row["seq"] for row in rows}

    async def parted(self, pairs: Sequence[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], int]:
        """Of (person, dialog) those who were in it once and are no longer: the last event they may see."""
        rows = await self._database.fetch(_PARTED, [user for user, _ in pairs], [one for _, one in pairs])
        return {(row["user_id"], row["dialog_id"]): row["left_seq"] for row in rows}

    async def receipts(self, dialog_ids: Sequence[UUID], but: UUID) -> list[tuple[UUID, UUID, int]]:
        """How far everybody but one has read dialogs: dialog, person, message."""
        rows = await self._database.fetch(_RECEIPTS, dialog_ids, but)
        return [(row["dialog_id"], row["user_id"], row["read_seq"]) for row in rows]

    async def keep(self, devices: Sequence[tuple[UUID, str, bytes, int]]) -> None:
        """Keeps where devices are: person, device, token and its stamp. Older than what is kept: nothing."""
        users, names, tokens, stamps = zip(*devices, strict=True)
        await self._database.call(_KEEP, users, names, tokens, stamps)

    async def device(self, user_id: UUID, device_id: str) -> bytes | None:
        """The token that a device acknowledged; None when it did not."""
        rows = await self._database.fetch(_DEVICE, user_id, device_id)
        return rows[0]["resume"] if rows else None

    async def forget_devices(self, days: int, most: int) -> None:
        """Drops devices that acknowledged nothing for some days, and of each person all but the newest."""
        await self._database.call(_FORGET, days, most)

    async def shared(self, user_ids: Sequence[UUID]) -> list[tuple[UUID, UUID]]:
        """The small dialogs of people: person, dialog."""
        return [(row[0], row[1]) for row in await self._database.fetch(_SHARED, user_ids, SMALL)]

    async def blocks(self, user_ids: Sequence[UUID]) -> set[tuple[UUID, UUID]]:
        """Blocks by people or of them, both ways round."""
        rows = await self._database.fetch(_BLOCKS, user_ids)
        pairs = {(row["blocker"], row["blocked"]) for row in rows}
        return pairs | {(blocked, blocker) for blocker, blocked in pairs}


def _event(row: Mapping[str, Any]) -> bytes:
    """A row of the log as a serialized Event."""
    dialog_id, seq = row["dialog_id"], row["seq"]
    if row["payload"] is None:
        event = frame_pb2.Event(
            dialog_id=str(dialog_id), seq=seq, actor_id=str(row["actor_id"]), at=_stamp(row["created_at"])
        )
        _fill(event.message_created, row)
        return event.SerializeToString()
    event = frame_pb2.Event.FromString(row["payload"])
    event.dialog_id = str(dialog_id)
    event.seq = seq
    if event.HasField("message_edited") and row["deleted_at"] is None and row["text"] is not None:
        # The log does not keep texts twice: an edit shows what the message says now.
        event.message_edited.content.text = row["text"]
        event.message_edited.mentions.extend(str(one) for one in row["mentions"] or ())
    return event.SerializeToString()


def _fill(message: message_pb2.Message, row: Mapping[str, Any]) -> None:
    dialog_id, seq = row["dialog_id"], row["seq"]
    message.id = message_id(dialog_id, seq)
    message.dialog_id = str(dialog_id)
    message.seq = seq
    message.sender_id = str(row["actor_id"])
    message.type = row["type"]
    message.client_message_id = row["client_message_id"]
    message.reply_count = row["reply_count"]
    message.created_at.CopyFrom(_stamp(row["created_at"]))
    if row["reply_to"] is not None:
        message.reply_to = message_id(dialog_id, row["reply_to"])
    if row["thread_seq"] is not None:
        message.thread_id = message_id(dialog_id, row["thread_seq"])
    if row["edited_at"] is not None:
        message.edited_at.CopyFrom(_stamp(row["edited_at"]))
    if row["deleted_at"] is not None:
        message.deleted_at.CopyFrom(_stamp(row["deleted_at"]))
        return
    message.content.text = row["text"]
    if row["attributes"]:
        with_attributes(message.content, message.type, json.loads(row["attributes"]))
    message.file_ids.extend(str(one) for one in row["file_ids"] or ())
    message.mentions.extend(str(one) for one in row["mentions"] or ())


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _stamp(at: datetime) -> Timestamp:
    since = at - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)
