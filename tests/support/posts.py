"""A store for group commit that keeps posts in a table, and tells when something was kept twice."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from services.mesh.errors import FailedPrecondition, SampanError
from services.mesh.fast_database import FastDatabase
from tests.support.databases import with_database
from tests.support.stack import Stack, execute

# Values that make trouble: a data error, and an entry that its own rule refuses.
POISON = -1
REFUSED = -2
NOT_TEXT = -3
# Whoever holds this lock holds up every commit.
HOLD = 7

# No unique key, so that a double post shows. Commits wait for HOLD; `conflicts` makes the next posts fail.
SCHEMA = """
CREATE TABLE posts (no bigint GENERATED ALWAYS AS IDENTITY, lane integer, key uuid, value integer);
CREATE INDEX ON posts (key);
CREATE SEQUENCE conflicts INCREMENT -1 MINVALUE -1000000 MAXVALUE 1000 START 1;
SELECT setval('conflicts', 1);
CREATE TABLE conflict (state text);
INSERT INTO conflict VALUES ('40001');

CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(7);
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON posts DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION hold();

CREATE FUNCTION post_batch(p_lane integer[], p_key uuid[], p_value integer[])
RETURNS TABLE (k uuid, n bigint) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF nextval('conflicts') > 0 THEN
    RAISE EXCEPTION 'injected' USING ERRCODE = (SELECT state FROM conflict);
  END IF;
  IF -3 = ANY (p_value) THEN
    RAISE EXCEPTION 'injected' USING ERRCODE = '22021';
  END IF;
  RETURN QUERY
  WITH made AS (
    INSERT INTO posts (lane, key, value)
    SELECT b.lane, b.key, b.value / (CASE WHEN b.value = -1 THEN 0 ELSE 1 END)
    FROM unnest(p_lane, p_key, p_value) WITH ORDINALITY AS b (lane, key, value, i)
    WHERE b.value <> -2 AND NOT EXISTS (SELECT FROM posts WHERE posts.key = b.key)
    ORDER BY b.i RETURNING key, no)
  SELECT * FROM made UNION ALL SELECT key, no FROM posts WHERE key = ANY (p_key);
END $$;
"""

POST = "SELECT k, n FROM post_batch($1, $2, $3)"
FIND = "SELECT key, no FROM posts WHERE key = ANY ($1)"


@dataclass(frozen=True)
class Post:
    """One entry; the key is made before the first attempt."""

    lane: int = 0
    value: int = 0
    key: uuid.UUID = field(default_factory=uuid.uuid4)


class Posts:
    """The store, in one of the two forms of a batch."""

    def __init__(self, database: FastDatabase, *, one_call: bool) -> None:
        self._database = database
        self.one_call = one_call
        self.batches: list[int] = []

    async def post(self, batch: Sequence[Post]) -> Sequence[int | SampanError]:
        """One transaction."""
        self.batches.append(len(batch))
        values = [post.lane for post in batch], [post.key for post in batch], [post.value for post in batch]
        if self.one_call:
            rows = await self._database.call(POST, *values)
        else:
            async with self._database.transaction() as connection:
                rows = await connection.fetch(POST, *values)
        made = dict(rows)
        return [FailedPrecondition() if post.value == REFUSED else made[post.key] for post in batch]

    async def find(self, entries: Sequence[Post]) -> Sequence[int | None]:
        """What is there."""
        made = dict(await self._database.fetch(FIND, [post.key for post in entries]))
        return [made.get(post.key) for post in entries]


@dataclass(frozen=True)
class Truth:
    """A database with the table, looked at past every proxy, by its operator."""

    url: str
    operator: asyncpg.Connection[Any]

    async def keys(self) -> list[uuid.UUID]:
        """The keys that are there, each as often as it is."""
        return [row[0] for row in await self.operator.fetch("SELECT key FROM posts ORDER BY no")]

    async def values(self, lane: int) -> list[int]:
        """The values of a lane in their order."""
        rows = await self.operator.fetch("SELECT value FROM posts WHERE lane = $1 ORDER BY no", lane)
        return [row[0] for row in rows]

    async def hold(self) -> None:
        """Holds up commits from now on."""
        await self.operator.execute(f"SELECT pg_advisory_lock({HOLD})")

    async def release(self) -> None:
        """Lets commits end."""
        await self.operator.execute(f"SELECT pg_advisory_unlock({HOLD})")

    async def held(self) -> int:
        """How many commits are held up."""
        return int(
            await self.operator.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )

    async def backends(self) -> list[int]:
        """The server processes of connections other than this."""
        rows = await self.operator.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return [row[0] for row in rows]

    async def kill(self) -> None:
        """Ends those processes."""
        for pid in await self.backends():
            await self.operator.execute("SELECT pg_terminate_backend($1)", pid)

    async def conflicts(self, times: int, state: str = "40001") -> None:
        """Makes the next posts fail with a state."""
        await self.operator.execute("UPDATE conflict SET state = $1", state)
        await self.operator.execute("SELECT setval('conflicts', $1)", times + 1)


@asynccontextmanager
async def truth(stack: Stack) -> AsyncIterator[Truth]:
    """A fresh database with the table, dropped at the end."""
    name = f"test_posts_{secrets.token_hex(6)}"
    found = stack.addresses
    admin = found.superuser()
    await execute(admin, f'CREATE DATABASE "{name}" OWNER identity_owner')
    url = with_database(found.database("identity", owner=True), name)
    operator = await asyncpg.connect(with_database(admin, name), timeout=10)
    try:
        await execute(url, SCHEMA)
        yield Truth(url, operator)
    finally:
        await operator.close()
        await execute(admin, f'DROP DATABASE "{name}" WITH (FORCE)')
