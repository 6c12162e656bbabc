"""Events that come when they like, and rebuilds in between: figures end as those of a simple model."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.analytics import repository
from services.analytics.domain import Fact, Figures, Known
from services.mesh.database import Database
from services.mesh.ids import uuid7
from tests.support.databases import Clone

PEOPLE = [uuid.UUID(int=number) for number in (1, 2, 3)]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["bill", "bill", "pay", "deliver", "deliver", "begin", "collect", "end"]),
        st.integers(0, 1000),
    ),
    max_size=40,
)


@dataclass
class Model:
    """Payment as one would write it down, and a rebuild that is under way."""

    told: list[Fact] = field(default_factory=list)
    run: uuid.UUID | None = None
    left: list[uuid.UUID] = field(default_factory=list)
    collected: int = 0

    def of(self, person: uuid.UUID) -> Figures:
        """What a person's events add up to."""
        theirs = [fact for fact in self.told if fact.user_id == person]
        return Figures(
            sum(fact.transactions for fact in theirs),
            sum(fact.amount for fact in theirs),
            sum(fact.paid for fact in theirs),
            len(theirs),
        )


@dataclass
class Room:
    """Tables of analytics next to the model; `owner` is the operator."""

    database: Database
    owner: Database
    wanted_at: datetime
    model: Model = field(default_factory=Model)

    async def bill(self, pick: int) -> None:
        person = PEOPLE[pick % 3]
        version = self.model.of(person).events + 1
        self.model.told.append(Fact(person, version, transactions=1, amount=pick + 1))

    async def pay(self, pick: int) -> None:
        person = PEOPLE[pick % 3]
        now = self.model.of(person)
        if now.transactions > now.paid:
            fact = Fact(person, now.events + 1, paid=now.transactions - now.paid)
            self.model.told.append(fact)

    async def deliver(self, pick: int) -> None:
        if self.model.told:
            await self._fold(self.model.told[pick % len(self.model.told)])

    async def begin(self, _: int) -> None:
        self.model.run, self.model.left, self.model.collected = uuid7(), list(PEOPLE), 0

    async def collect(self, _: int) -> None:
        """Payment is asked for one person, as they are by now."""
        if self.model.run is None or not self.model.left:
            return
        person = self.model.left.pop(0)
        figures = self.model.of(person)
        if figures.events:
            async with self.database.transaction() as connection:
                await repository.collect(connection, self.model.run, [Known(person, figures)])
            self.model.collected += 1

    async def end(self, pick: int) -> None:
        if self.model.run is None:
            return
        while self.model.left:
            await self.collect(pick)
        async with self.database.transaction() as connection:
            people = self.model.collected
            assert await repository.rebuild(connection, self.model.run, people, self.wanted_at)
        self.model.run = None

    async def check(self) -> None:
        """When all was delivered, figures are those of the model."""
        for fact in self.model.told[::-1]:
            await self._fold(fact)
        async with self.database.reading() as connection:
            shown = [await repository.of_user(connection, one) for one in PEOPLE]
            totals = await repository.totals(connection)
        wanted = [self.model.of(one) for one in PEOPLE]
        assert shown == wanted
        assert totals.figures == Figures(
            *(sum(getattr(one, name) for one in wanted) for name in ("transactions", "amount", "paid")),
            len(self.model.told),
        )
        assert totals.users == len({fact.user_id for fact in self.model.told})

    async def _fold(self, fact: Fact) -> None:
        async with self.database.transaction() as connection:
            await repository.fold(connection, fact)


@pytest.fixture(scope="module")
async def pools(analytics_database: Clone) -> AsyncIterator[tuple[Database, Database]]:
    running = Database(analytics_database.runtime_url, pool=2, timeout=5, name="tests")
    owner = Database(analytics_database.owner_url, pool=2, timeout=5, name="tests")
    yield running, owner
    await running.close()
    await owner.close()


@settings(
    max_examples=settings().max_examples // 4,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(actions=ACTIONS)
async def test_figures_equal_the_model(
    pools: tuple[Database, Database], actions: list[tuple[str, int]]
) -> None:
    running, owner = pools
    async with owner.transaction() as connection:
        await connection.exec_driver_sql("TRUNCATE facts, user_stats, snapshots")
        await connection.exec_driver_sql(
            "UPDATE totals SET transactions = 0, amount = 0, paid = 0, events = 0, users = 0"
        )
        wanted_at = await repository.ask(connection)
    room = Room(running, owner, wanted_at)
    for action, pick in actions:
        await getattr(room, action)(pick)
    await room.check()


async def test_of_two_rebuilds_at_once_the_one_that_ends_later_does_nothing(
    pools: tuple[Database, Database],
) -> None:
    running, owner = pools
    person, first, second = uuid.uuid4(), uuid7(), uuid7()
    async with owner.transaction() as connection:
        wanted_at = await repository.ask(connection)
    async with running.transaction() as connection:
        await repository.collect(connection, first, [Known(person, Figures(1, 5, 0, 1))])
        await repository.collect(connection, second, [Known(person, Figures(2, 9, 0, 2))])
    async with running.transaction() as connection:
        assert await repository.rebuild(connection, second, 1, wanted_at)
    async with running.transaction() as connection:
        assert not await repository.rebuild(connection, first, 1, wanted_at)
    async with running.reading() as connection:
        assert await repository.of_user(connection, person) == Figures(2, 9, 0, 2)
        assert await repository.wanted(connection) is None
