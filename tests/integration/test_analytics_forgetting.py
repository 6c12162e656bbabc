"""Facts that are old and without a gap are forgotten, and no figure changes by it, whatever comes after."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import asyncpg
import pytest

from services.analytics import repository
from services.analytics.domain import Fact, Figures, Known
from services.analytics.forgetting import Forgetting
from services.mesh.database import Database
from services.mesh.ids import uuid7
from services.mesh.logs import logger
from tests.support.databases import Clone

DAYS = 30


@dataclass(frozen=True)
class Store:
    """Tables of analytics, what forgets in them, and their owner."""

    database: Database
    forgetting: Forgetting
    owner: asyncpg.Connection

    async def fold(self, facts: Iterable[Fact]) -> None:
        """Each in its own transaction."""
        for fact in facts:
            async with self.database.transaction() as connection:
                await repository.fold(connection, fact)

    async def figures(self, person: uuid.UUID) -> Figures:
        """Of a person."""
        async with self.database.reading() as connection:
            return await repository.of_user(connection, person)

    async def totals(self) -> Figures:
        """Of all."""
        async with self.database.reading() as connection:
            return (await repository.totals(connection)).figures

    async def age(self) -> None:
        """All that is there was counted long ago."""
        await self.owner.execute("UPDATE facts SET counted_at = now() - make_interval(days => $1)", DAYS + 1)

    async def left(self, person: uuid.UUID) -> list[int]:
        """Versions of the facts that are there."""
        rows = await self.owner.fetch("SELECT version FROM facts WHERE user_id = $1 ORDER BY version", person)
        return [row["version"] for row in rows]


@pytest.fixture
async def store(analytics_database: Clone) -> AsyncIterator[Store]:
    database = Database(analytics_database.runtime_url, pool=2, timeout=5, name="tests")
    owner = await asyncpg.connect(analytics_database.owner_url)
    await owner.execute("TRUNCATE facts, user_stats, snapshots, rebuilds")
    await owner.execute("UPDATE totals SET transactions = 0, amount = 0, paid = 0, events = 0, users = 0")
    yield Store(database, Forgetting(database, logger("tests"), days=DAYS, pause=1.0), owner)
    await database.close()
    await owner.close()


def some_facts(person: uuid.UUID, count: int) -> list[Fact]:
    """Bills and payments, one after the other."""
    return [
        Fact(person, version, transactions=1, amount=version)
        if version % 2
        else Fact(person, version, paid=1)
        for version in range(1, count + 1)
    ]


async def test_old_facts_go_and_the_figures_stay_whatever_comes_again(store: Store) -> None:
    people = [uuid.uuid4() for _ in range(3)]
    facts = [fact for person in people for fact in some_facts(person, 8)]
    await store.fold(facts)
    before, all_before = [await store.figures(one) for one in people], await store.totals()
    await store.age()
    await store.forgetting.once()
    assert [await store.left(one) for one in people] == [[], [], []]
    random.shuffle(facts)
    await store.fold(facts)
    assert [await store.figures(one) for one in people] == before
    assert await store.totals() == all_before
    await store.fold([Fact(people[0], 9, transactions=1, amount=5)])
    assert (await store.figures(people[0])).events == 9


async def test_young_facts_stay(store: Store) -> None:
    person = uuid.uuid4()
    await store.fold(some_facts(person, 3))
    await store.age()
    await store.fold(some_facts(person, 5))
    await store.forgetting.once()
    assert await store.left(person) == [4, 5]


async def test_what_follows_a_gap_stays_until_the_gap_is_filled(store: Store) -> None:
    person = uuid.uuid4()
    facts = some_facts(person, 6)
    await store.fold(facts[:2] + facts[3:])
    await store.age()
    await store.forgetting.once()
    assert await store.left(person) == [4, 5, 6]
    await store.fold([facts[2]])
    assert await store.figures(person) == Figures(3, 9, 3, 6)
    await store.age()
    await store.forgetting.once()
    assert await store.left(person) == []
    assert await store.figures(person) == Figures(3, 9, 3, 6)


async def test_a_rebuild_needs_none_of_what_was_forgotten(store: Store) -> None:
    person, run = uuid.uuid4(), uuid7()
    await store.fold(some_facts(person, 6))
    await store.age()
    await store.forgetting.once()
    await store.owner.execute("UPDATE user_stats SET amount = 1")
    async with store.database.transaction() as connection:
        await repository.collect(connection, run, [Known(person, Figures(3, 9, 3, 6))])
    await store.fold([Fact(person, 7, transactions=1, amount=7)])
    wanted_at = await store.owner.fetchval("INSERT INTO rebuilds DEFAULT VALUES RETURNING wanted_at")
    async with store.database.transaction() as connection:
        assert await repository.rebuild(connection, run, 1, wanted_at)
    assert await store.figures(person) == await store.totals() == Figures(4, 16, 3, 7)


async def test_the_running_role_forgets_nothing_above_a_floor(
    store: Store, analytics_database: Clone
) -> None:
    person = uuid.uuid4()
    await store.fold(some_facts(person, 2))
    running = await asyncpg.connect(analytics_database.runtime_url)
    await running.execute("SELECT forget_facts(ARRAY[$1]::uuid[], now() + interval '1 day')", person)
    await running.close()
    assert await store.left(person) == [1, 2]
