"""Figures of bills: each event counts once, whatever comes twice, late or never, and all can be made anew."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import asyncpg
import pytest

from sampan.payment.v1 import events_pb2 as events
from services.analytics import repository
from services.analytics.domain import Fact
from services.analytics.payment_client import PaymentBills
from services.analytics.rebuild import Rebuilder
from services.mesh import migrations
from services.mesh.channels import Peer
from services.mesh.database import Database
from services.mesh.errors import Unavailable
from services.mesh.settings import ServiceSettings
from services.stack.pki import Pki
from tests.support import faults
from tests.support.analytics import Accounting, accounting, somebody
from tests.support.bus import ADMIN, log
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.mesh import settings_of
from tests.support.waiting import until

# Seconds in which figures follow, where a bar is not what is looked at.
WITHIN = 20
TABLES = "facts, user_stats, snapshots, rebuilds, inbox, inbox_troubled"


@pytest.fixture
async def books(
    payment_database: Clone, analytics_database: Clone, pki: Pki, tmp_path: Path
) -> AsyncIterator[Accounting]:
    """Both, with nothing in them."""
    for one, statement in (
        (payment_database, "TRUNCATE bills, bill_accounts, outbox, outbox_head, idempotency"),
        (analytics_database, f"TRUNCATE {TABLES}; {_NOTHING}"),
    ):
        owner = await asyncpg.connect(one.owner_url)
        await owner.execute(statement)
        await owner.close()
    async with accounting(payment_database, analytics_database, pki, tmp_path) as found:
        yield found


_NOTHING = "UPDATE totals SET transactions = 0, amount = 0, paid = 0, events = 0, users = 0"


async def follows(books: Accounting) -> None:
    """Until the figures are those of payment."""
    await until(books.is_right, wanted=True, within=WITHIN)


async def test_figures_follow_bills_and_payments(books: Accounting) -> None:
    one, other = somebody(), somebody()
    assert await books.figures.of_all() == (0, 0, 0, 0, 0)
    await books.bill(one, 100, 25_000)
    await books.bill(other, 7)
    await books.pay(one)
    await books.bill(one, 50)
    await until(books.figures.of_all, (4, 25_157, 2, 5, 2), within=WITHIN)
    assert await books.figures.of(one) == (3, 25_150, 2, 4)
    assert await books.figures.of(other) == (1, 7, 0, 1)
    assert await books.truth() == (4, 25_157, 2, 5, 2)


async def test_ones_own_figures_are_for_oneself_and_for_admins(books: Accounting) -> None:
    one, other = somebody(), somebody()
    await books.bill(one, 100)
    await follows(books)
    assert await reason(books.figures.of(one, viewer=other)) == "PERMISSION_DENIED"
    # Also of whom there is nothing to see: who has bills is not told.
    assert await reason(books.figures.of(somebody(), viewer=other)) == "PERMISSION_DENIED"
    assert await books.figures.of(one, viewer=other, roles=["admin"]) == (1, 100, 0, 1)
    assert await books.figures.of(other) == (0, 0, 0, 0)


async def test_an_event_that_comes_twice_counts_once(books: Accounting) -> None:
    one = somebody()
    await books.bill(one, 100, 200)
    await books.pay(one)
    await follows(books)
    rows = await books.payment.fetch(
        "SELECT id, subject, aggregate_id, aggregate_version, payload FROM outbox ORDER BY position"
    )
    # Under its own id, and, as if the ids were forgotten by age, under another one.
    async with books.server.client(ADMIN) as admin:
        for row in rows:
            for event_id in (row["id"], uuid.uuid4()):
                headers = {
                    "ce-id": str(event_id),
                    "ce-subject": str(row["aggregate_id"]),
                    "ce-aggregateversion": str(row["aggregate_version"]),
                }
                await admin.jetstream().publish(row["subject"], row["payload"], headers=headers)
    await books.bill(one, 300)
    await until(books.figures.of_all, (3, 600, 2, 4, 1), within=WITHIN)


async def test_what_comes_in_another_order_adds_up_to_the_same(
    books: Accounting, analytics_database: Clone
) -> None:
    one = uuid.uuid4()
    facts = [Fact(one, 1, 1, 100), Fact(one, 2, paid=1), Fact(one, 3, 1, 50), Fact(one, 4, paid=1)]
    database = Database(analytics_database.runtime_url, pool=4, timeout=5, name="tests")

    async def fold(fact: Fact) -> None:
        async with database.transaction() as connection:
            await repository.fold(connection, fact)

    await asyncio.gather(*(fold(fact) for fact in [*facts[::-1], *facts]))
    await database.close()
    assert await books.figures.of(str(one)) == (2, 150, 2, 4)
    assert await books.figures.of_all() == (2, 150, 2, 4, 1)


@pytest.mark.parametrize("point", ["consumer.after_effect", "consumer.after_commit"])
async def test_a_failure_around_the_commit_counts_once(books: Accounting, point: str, tmp_path: Path) -> None:
    one = somebody()
    with faults.here(tmp_path), faults.armed(tmp_path, point, "raise"):
        await books.bill(one, 100)
        await books.bill(one, 200)
        await follows(books)
    await books.bill(one, 300)
    await until(books.figures.of_all, (3, 600, 0, 3, 1), within=WITHIN)


async def test_a_lost_store_of_jetstream_changes_no_figure(books: Accounting) -> None:
    one = somebody()
    await books.bill(one, 100, 200)
    await follows(books)
    await books.server.kill()
    books.server.lose_store()
    await books.bill(one, 300)
    await books.pay(one)
    await books.server.start()
    await until(books.figures.of_all, (3, 600, 3, 4, 1), within=WITHIN)
    await books.bill(one, 1)
    await until(books.figures.of_all, (4, 601, 3, 5, 1), within=WITHIN)


async def ask(books: Accounting) -> datetime:
    """Has all of it rebuilt, as the operator does; returns since when that is wanted."""
    async with books.operator.transaction() as connection:
        return await repository.ask(connection)


async def rebuilt(books: Accounting) -> None:
    """Has it rebuilt and waits for the end."""
    wanted_at = await ask(books)

    async def done() -> bool:
        async with books.operator.reading() as connection:
            return await repository.is_done(connection, wanted_at)

    await until(done, wanted=True, within=WITHIN)


async def test_figures_that_were_lost_are_made_anew(books: Accounting) -> None:
    people = [somebody() for _ in range(7)]
    for number, one in enumerate(people):
        await books.bill(one, number + 1, 10)
    await books.pay(people[0])
    await follows(books)
    # Bus and inbox know all of it as done: nothing but payment has it still.
    await books.analytics.execute(f"TRUNCATE facts, user_stats; {_NOTHING}")
    await rebuilt(books)
    assert await books.is_right()
    assert await books.figures.of(people[0]) == (2, 11, 2, 3)
    await books.bill(people[0], 5)
    await books.bill(somebody(), 6)
    await follows(books)


async def test_figures_that_are_wrong_are_made_right(books: Accounting) -> None:
    one = somebody()
    await books.bill(one, 100, 200)
    await follows(books)
    await books.analytics.execute("UPDATE user_stats SET amount = 1; UPDATE totals SET amount = 7, users = 9")
    await books.analytics.execute("INSERT INTO user_stats (user_id, amount) VALUES (gen_random_uuid(), 5)")
    for _ in range(2):
        await rebuilt(books)
        assert await books.figures.of_all() == (2, 300, 0, 2, 1)
        assert await books.figures.of(one) == (2, 300, 0, 2)


async def test_a_rebuild_while_bills_are_made_and_paid_loses_and_doubles_nothing(books: Accounting) -> None:
    people = [somebody() for _ in range(10)]

    async def live(one: str) -> None:
        for number in range(12):
            await books.bill(one, number + 1)
            if number % 4 == 3:
                await books.pay(one)

    living = [asyncio.ensure_future(live(one)) for one in people]
    while not all(one.done() for one in living):
        await rebuilt(books)
    await asyncio.gather(*living)
    await follows(books)
    assert await books.figures.of_all() == (120, 780, 120, 150, 10)
    shown = [await books.figures.of(one) for one in people]
    assert shown == [(12, 78, 12, 15)] * 10


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
async def test_a_rebuild_that_fails_is_begun_again(books: Accounting, moment: str, tmp_path: Path) -> None:
    one = somebody()
    await books.bill(one, 100, 200)
    await follows(books)
    await books.analytics.execute("UPDATE totals SET amount = 7")
    with faults.here(tmp_path), faults.armed(tmp_path, f"analytics.rebuild.{moment}", "close_connection"):
        await rebuilt(books)
        assert await books.figures.of_all() == (2, 300, 0, 2, 1)
        await books.bill(one, 1)
        await follows(books)
    assert await books.analytics.fetchval("SELECT count(*) FROM snapshots") == 0


async def test_while_payment_is_away_nothing_is_rebuilt_and_figures_stay(books: Accounting, pki: Pki) -> None:
    one = somebody()
    await books.bill(one, 100)
    await follows(books)
    nobody = Peer((), "payment", ServiceSettings(**settings_of("analytics", pki)))
    alone = Rebuilder(books.operator, PaymentBills(nobody), log, pause=1, page=10)
    # The one that reaches payment may be quicker: then there is nothing to do for this one.
    await ask(books)
    with contextlib.suppress(Unavailable):
        assert not await alone.once()
    assert await books.figures.of_all() == (1, 100, 0, 1, 1)


async def test_an_event_that_cannot_be_read_is_parked_and_others_pass_it_by(books: Accounting) -> None:
    one = somebody()
    await books.bill(one, 100)
    await follows(books)
    headers = {"ce-id": str(uuid.uuid4()), "ce-subject": one, "ce-aggregateversion": "9"}
    told = events.TransactionCreated(user_id="nobody", amount=5)
    async with books.server.client(ADMIN) as admin:
        payload = told.SerializeToString()
        await admin.jetstream().publish("sampan.payment.transaction.created", payload, headers=headers)

    async def parked() -> int:
        return int(await books.analytics.fetchval("SELECT count(*) FROM inbox_troubled WHERE tries >= 5"))

    await until(parked, 1, within=WITHIN)
    await books.bill(one, 200)
    await until(books.figures.of_all, (2, 300, 0, 2, 1), within=WITHIN)


async def test_counts_that_are_more_than_the_contract_can_show_end_there(
    books: Accounting, analytics_database: Clone
) -> None:
    owner = await asyncpg.connect(analytics_database.owner_url)
    await owner.execute(
        "UPDATE totals SET transactions = 3000000000, events = 2147483648, amount = 3000000000"
    )
    await owner.close()
    most = 2**31 - 1
    assert await books.figures.of_all() == (most, 3_000_000_000, 0, most, 0)


async def test_the_running_role_changes_no_fact(books: Accounting, analytics_database: Clone) -> None:
    await books.bill(somebody(), 100)
    await follows(books)
    running = await asyncpg.connect(analytics_database.runtime_url)
    try:
        for statement in ("UPDATE facts SET amount = 1", "DELETE FROM facts", "TRUNCATE facts"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await running.execute(statement)
    finally:
        await running.close()


async def test_models_and_migrations_agree(analytics_database: Clone) -> None:
    url = analytics_database.owner_url
    await migrations.check("analytics", url)
    await migrations.downgrade("analytics", url, "base")
    await migrations.upgrade("analytics", url)
    await migrations.check("analytics", url)
