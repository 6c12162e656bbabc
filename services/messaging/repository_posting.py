"""SQL of writing messages: one round trip for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

from asyncpg import Record

from services.mesh.fast_database import FastDatabase
from services.messaging.domain import Draft

Value = TypeVar("Value")


class Status(IntEnum):
    """What `write_messages` says of an entry."""

    WRITTEN = 0
    THERE = 1
    REUSED = 2
    DROPPED = 3
    NO_DIALOG = 4
    BLOCKED = 5
    NO_REPLY = 6


# What is alike for all of a batch is said once, since an array costs the driver and the server something for
# each entry: the type, and where they are all in different dialogs, that each is the only one there.
_POST = """
SELECT status, seq, message_no, stamp, thread_seq, mentions FROM write_messages(
    $1::uuid[], $2::uuid[], $3::text[], coalesce($4::text[], array_fill($5::text, ARRAY[cardinality($1)])),
    $6::text[], $7::text[], $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::bytea[],
    coalesce($13::integer[], array_fill(1, ARRAY[cardinality($1)])),
    coalesce($14::boolean[], array_fill(true, ARRAY[cardinality($1)])),
    coalesce($15::boolean[], array_fill($16::boolean, ARRAY[cardinality($1)])))
"""
_FIND = """
SELECT m.seq, m.message_no, (extract(epoch FROM m.created_at) * 1000000)::bigint AS stamp, m.thread_seq,
    m.mentions, m.request_hash
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) WITH ORDINALITY AS g (dialog_id, sender_id, key, ord)
LEFT JOIN messages m
    ON m.dialog_id = g.dialog_id AND m.sender_id = g.sender_id AND m.client_message_id = g.key
ORDER BY g.ord
"""


def _array(ids: Sequence[object]) -> str | None:
    """A PostgreSQL array as a text: arrays of arrays must be rectangular."""
    return "{" + ",".join(map(str, ids)) + "}" if ids else None


def _unless_empty(values: list[Value | None]) -> list[Value | None] | None:
    """What no entry of a batch has is not even asked for."""
    return None if values.count(None) == len(values) else values


def _places(batch: Sequence[Draft]) -> tuple[list[int], list[bool], list[bool]]:
    """The number of each entry in its dialog, whether it is the last there, and that of what its sender read.

    Who writes has read; a notice that a service writes in somebody's name marks nothing.
    """
    places, counts = [], dict.fromkeys((one.dialog_id for one in batch), 0)
    lasts, marks = {}, {}
    for at, one in enumerate(batch):
        counts[one.dialog_id] += 1
        places.append(counts[one.dialog_id])
        lasts[one.dialog_id] = at
        if not one.is_notice:
            marks[one.dialog_id, one.sender_id] = at
    last, mark = set(lasts.values()), set(marks.values())
    every = range(len(batch))
    return places, [at in last for at in every], [at in mark for at in every]


async def post(database: FastDatabase, batch: Sequence[Draft]) -> list[Record]:
    """Writes messages and says of each what became of it, in order."""
    dialogs, types = [one.dialog_id for one in batch], [one.type for one in batch]
    of_one_type = types.count(types[0]) == len(types)
    are_alone = of_one_type and len(set(dialogs)) == len(dialogs)
    return await database.call(
        _POST,
        dialogs,
        [one.sender_id for one in batch],
        [one.client_message_id for one in batch],
        *((None, types[0]) if of_one_type else (types, None)),
        [one.text for one in batch],
        _unless_empty([one.attributes for one in batch]),
        _unless_empty([one.reply_to for one in batch]),
        _unless_empty([one.thread for one in batch]),
        _unless_empty([_array(one.file_ids) for one in batch]),
        _unless_empty([_array(one.mentions) for one in batch]),
        [one.request_hash for one in batch],
        *((None, None, None) if are_alone else _places(batch)),
        are_alone and not batch[0].is_notice,
    )


async def find(database: FastDatabase, drafts: Sequence[Draft]) -> list[Record]:
    """What is stored under the ids of messages, in order; a row of nulls for what is not."""
    return await database.fetch(
        _FIND,
        [one.dialog_id for one in drafts],
        [one.sender_id for one in drafts],
        [one.client_message_id for one in drafts],
    )
