"""The two functions that write messages, the quick one and the thorough one, do the same with any batch."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from services.messaging import repository_posting
from services.messaging.domain import Draft
from services.messaging.repository_posting import Status
from tests.support.databases import Clone

_THOROUGH = """
SELECT status, seq, message_no, thread_seq, mentions FROM post_messages($1::uuid[], $2::uuid[], $3::text[],
    $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::bytea[])
"""
# All that a batch may change, but for when.
_STATE = (
    "SELECT id, seq, message_no FROM dialogs ORDER BY id",
    "SELECT dialog_id, user_id, read_seq, read_no FROM members ORDER BY 1, 2",
    """
    SELECT dialog_id, seq, message_no, sender_id, client_message_id, type, text, attributes, reply_to,
        thread_seq, reply_count, file_ids, mentions, request_hash FROM messages ORDER BY 1, 2
    """,
    "SELECT * FROM mentions ORDER BY 1, 2, 3",
)


@dataclass(frozen=True)
class Quick:
    """What `repository_posting.post` asks for its database."""

    connection: asyncpg.Connection[Any]

    async def call(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        return await self.connection.fetch(statement, *values)


async def thorough(connection: asyncpg.Connection[Any], batch: Sequence[Draft]) -> list[asyncpg.Record]:
    """Has a batch looked at one by one."""
    ids = repository_posting._array
    return await connection.fetch(
        _THOROUGH,
        [one.dialog_id for one in batch],
        [one.sender_id for one in batch],
        [one.client_message_id for one in batch],
        [one.type for one in batch],
        [one.text for one in batch],
        [one.attributes for one in batch],
        [one.reply_to for one in batch],
        [one.thread for one in batch],
        [ids(one.file_ids) for one in batch],
        [ids(one.mentions) for one in batch],
        [one.request_hash for one in batch],
    )


async def quick(connection: asyncpg.Connection[Any], batch: Sequence[Draft]) -> list[asyncpg.Record]:
    """Writes a batch as the service does."""
    return await repository_posting.post(Quick(connection), batch)  # type: ignore[arg-type]


def told(rows: list[asyncpg.Record]) -> list[tuple[object, ...]]:
    return [
        (row["status"], row["seq"], row["message_no"], row["thread_seq"], row["mentions"]) for row in rows
    ]


class World:
    """Dialogs and people, and batches of what they may say, rightly or wrongly."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.people = [uuid.uuid4() for _ in range(4)]
        self.dialogs = [uuid.uuid4() for _ in range(4)]
        self.said: list[Draft] = []

    async def make(self, connection: asyncpg.Connection[Any]) -> None:
        """A group of all but one, two direct dialogs, one of them blocked, and a closed channel."""
        ann, bob, cat, dan = self.people
        group, direct, blocked, closed = self.dialogs
        kinds = ((group, 2, (ann, bob, cat)), (direct, 1, (ann, bob)), (blocked, 1, (ann, dan)))
        for dialog, kind, members in (*kinds, (closed, 3, (ann, bob))):
            await connection.execute(
                "INSERT INTO dialogs (id, kind, created_by, seq, member_count, direct_key, closed_at)"
                " VALUES ($1, $2, $3, 1, $4, $5, CASE WHEN $6 THEN now() END)",
                dialog,
                kind,
                ann,
                len(members),
                dialog.bytes if kind == 1 else None,
                dialog == closed,
            )
            for member in members:
                await connection.execute(
                    "INSERT INTO members (dialog_id, user_id, role, joined_seq, inviter)"
                    " VALUES ($1, $2, 1, 1, $2)",
                    dialog,
                    member,
                )
        await connection.execute("INSERT INTO blocks (blocker, blocked) VALUES ($1, $2)", dan, ann)
        await connection.execute("UPDATE dialogs SET first_seq = 2 WHERE id = $1", direct)
        await connection.execute(
            "INSERT INTO spent_ids (dialog_id, sender_id, client_message_id, seq) VALUES ($1, $2, 'k0', 1)",
            direct,
            ann,
        )

    def batch(self, *, sound: bool) -> list[Draft]:
        """Some messages, no two with one id; `sound` ones can all be written."""
        drafts: dict[tuple[object, ...], Draft] = {}
        for _ in range(self.chance.randrange(1, 20)):
            one = self._sound() if sound else self._any()
            drafts[one.dialog_id, one.sender_id, one.client_message_id] = one
        return list(drafts.values())

    def _sound(self) -> Draft:
        group, direct, *_ = self.dialogs
        dialog = self.chance.choice((group, group, direct))
        sender = self.chance.choice(self.people[: 3 if dialog == group else 2])
        has_some = any(one.dialog_id == dialog for one in self.said)
        return self._draft(
            dialog, sender, f"{uuid.uuid4()}", self.chance.choice((None, 2 if has_some else None))
        )

    def _any(self) -> Draft:
        if self.said and self.chance.random() < 0.1:
            return self.chance.choice(self.said)
        dialog = self.chance.choice((*self.dialogs, uuid.uuid4()))
        about = self.chance.choice((None, None, None, 0, 2, 3, 99))
        return self._draft(dialog, self.chance.choice(self.people), f"k{self.chance.randrange(400)}", about)

    def _draft(self, dialog: uuid.UUID, sender: uuid.UUID, key: str, about: int | None) -> Draft:
        chance = self.chance
        notice = chance.random() < 0.2
        return Draft(
            dialog_id=dialog,
            sender_id=sender,
            client_message_id=key,
            text=f"{chance.random()}",
            request_hash=chance.randbytes(16),
            type="joined" if notice else "text",
            attributes='{"a": "b"}' if notice else None,
            reply_to=about,
            thread=chance.choice((None, about)),
            file_ids=tuple(uuid.uuid4() for _ in range(chance.randrange(2))),
            mentions=tuple(chance.sample(self.people, chance.randrange(3))),
        )


@pytest.mark.parametrize("seed", range(6))
async def test_the_quick_way_answers_and_writes_like_the_thorough_one(
    messaging_database: Clone, seed: int
) -> None:
    connection = await asyncpg.connect(messaging_database.runtime_url)
    owner = await asyncpg.connect(messaging_database.owner_url)
    world = World(random.Random(seed))
    await world.make(owner)
    seen: set[int] = set()
    try:
        for number in range(25):
            batch = world.batch(sound=number % 2 == 0)
            found: list[object] = []
            for write in (thorough, quick):
                attempt = connection.transaction()
                await attempt.start()
                answers = told(await write(connection, batch))
                found.append((answers, [await connection.fetch(one) for one in _STATE]))
                await attempt.rollback()
            assert found[0] == found[1]
            rows = await quick(connection, batch)
            seen |= {row["status"] for row in rows}
            world.said += [one for one, row in zip(batch, rows, strict=True) if row["status"] == 0]
    finally:
        await connection.close()
        await owner.close()
    assert {Status.WRITTEN, Status.THERE, Status.NO_DIALOG, Status.BLOCKED, Status.NO_REPLY} <= seen


async def test_the_quick_way_needs_no_second_one_for_what_can_be_written(messaging_database: Clone) -> None:
    """Else each batch would be written twice, and nobody would see but the clock."""
    owner = await asyncpg.connect(messaging_database.owner_url)
    world = World(random.Random(7))
    await world.make(owner)
    try:
        for _ in range(10):
            async with owner.transaction():
                batch = world.batch(sound=True)
                # What nobody can call.
                await owner.execute("ALTER FUNCTION post_messages RENAME TO gone")
                assert {row["status"] for row in await quick(owner, batch)} == {0}
                world.said += batch
                await owner.execute("ALTER FUNCTION gone RENAME TO post_messages")
    finally:
        await owner.close()
