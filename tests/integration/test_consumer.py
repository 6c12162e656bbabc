"""Each event has its effect once, and one that always fails stands in nobody's way."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa
from nats.js.errors import NotFoundError
from sqlalchemy.ext.asyncio import AsyncConnection

from sampan.identity.v1 import events_pb2
from services.mesh import inbox, migrations
from services.mesh.consumer import Consumer, Effect
from services.mesh.database import Database
from services.mesh.errors import Unavailable
from services.mesh.inbox import Received
from services.mesh.outbox import Event, Outbox
from services.mesh.settings import MeshSettings
from tests.support import faults
from tests.support.bus import ADMIN, NatsServer, background, log, nats_server, on_bus, relaying
from tests.support.databases import Clone
from tests.support.waiting import until

SUBJECT = "sampan.identity.account.created"
QUICK = MeshSettings(
    relay_poll_seconds=0.05,
    event_ack_seconds=1,
    event_tries=3,
    event_retry_first_seconds=0.02,
    event_retry_ceiling_seconds=0.1,
)


# One after another, and several at once.
BOTH = pytest.mark.parametrize("setting", [False, True], ids=["alone", "together"], indirect=True)


@dataclass
class Handling:
    """Counts tries and effects of events; those of `poisonous` aggregates fail, and all while `away`."""

    poisonous: set[uuid.UUID] = field(default_factory=set)
    away: bool = False
    # Holds every try up until it is set.
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    tried: list[uuid.UUID] = field(default_factory=list)

    async def handle(self, event: Received) -> Effect:
        self.tried.append(event.id)
        await self.go_on.wait()
        if self.away:
            raise Unavailable
        if event.aggregate_id in self.poisonous:
            raise LookupError("with somebody's name in it")

        async def effect(connection: AsyncConnection) -> None:
            # As an effect in the database is: undone with its transaction.
            await connection.execute(
                sa.text("INSERT INTO effects (event_id) VALUES (:event_id)"), {"event_id": event.id}
            )

        return effect


@dataclass
class Setting:
    """Identity's outbox and notification's inbox, with a bus between them."""

    outbox: Outbox
    identity: Database
    handling: Handling
    database: Database
    owner: asyncpg.Connection
    server: NatsServer
    consumer: Consumer

    async def publish(self, *aggregates: uuid.UUID) -> list[uuid.UUID]:
        events = [
            Event(SUBJECT, one, 1, events_pb2.AccountCreated(account_id=str(one))) for one in aggregates
        ]
        async with self.identity.transaction() as connection:
            await self.outbox.add(connection, *events)
        return [one.id for one in events]

    async def effects(self) -> list[uuid.UUID]:
        rows = await self.owner.fetch("SELECT event_id FROM effects ORDER BY at")
        return [uuid.UUID(str(row[0])) for row in rows]

    async def parked(self) -> list[tuple[uuid.UUID, str, int]]:
        async with self.database.transaction() as connection:
            found = await inbox.parked(connection, 100)
        return [(one.event.id, one.error, one.tries) for one in found]

    async def published(self) -> int:
        """Events that the bus has."""
        async with self.server.client(ADMIN) as admin:
            try:
                info = await admin.jetstream().stream_info("SAMPAN_IDENTITY")
            except NotFoundError:
                return 0
        return int(info.state.messages)

    async def waiting(self) -> int:
        """Events that are not acknowledged yet."""
        async with self.server.client(ADMIN) as admin:
            info = await admin.jetstream().consumer_info("SAMPAN_IDENTITY", "notification")
        return int(info.num_pending or 0) + int(info.num_ack_pending or 0)

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[None]:
        async with background(self.consumer.run(), self.consumer.replay()):
            yield


@pytest.fixture
async def setting(
    request: pytest.FixtureRequest, identity_database: Clone, notification_database: Clone, tmp_path: Path
) -> AsyncIterator[Setting]:
    together = getattr(request, "param", False)
    owner = await asyncpg.connect(notification_database.owner_url)
    await owner.execute(
        "DROP TABLE IF EXISTS effects; TRUNCATE inbox, inbox_troubled;"
        "CREATE TABLE effects (event_id uuid, at timestamptz DEFAULT clock_timestamp());"
        "GRANT ALL ON effects TO notification"
    )
    publisher = await asyncpg.connect(identity_database.owner_url)
    await publisher.execute("TRUNCATE outbox, outbox_head")
    await publisher.close()
    identity = Database(identity_database.runtime_url, pool=1, timeout=4, name="test")
    database = Database(notification_database.runtime_url, pool=3, timeout=4, name="test")
    handling = Handling()
    handling.go_on.set()
    async with (
        nats_server(tmp_path) as server,
        on_bus(server, "identity") as publishing,
        on_bus(server, "notification") as bus,
        relaying(identity_database, publishing, QUICK) as relay,
    ):
        handlers = {SUBJECT: handling.handle}
        consumer = Consumer(
            "notification", "identity", handlers, bus, database, QUICK, log, together=together
        )
        yield Setting(Outbox(relay.wake), identity, handling, database, owner, server, consumer)
    await owner.execute("DROP TABLE effects")
    await owner.close()
    await identity.close()
    await database.close()


@BOTH
async def test_events_have_their_effects_in_order(setting: Setting) -> None:
    ids = await setting.publish(*(uuid.uuid4() for _ in range(50)))
    async with setting.consuming():
        await until(setting.effects, ids, within=20)
        await until(setting.waiting, 0, within=20)
        more = await setting.publish(uuid.uuid4())
        await until(setting.effects, ids + more, within=20)
    assert setting.handling.tried == ids + more


@BOTH
@pytest.mark.parametrize("point", ["consumer.after_effect", "consumer.after_commit"])
async def test_a_failure_around_the_commit_leaves_one_effect(
    setting: Setting, point: str, tmp_path: Path
) -> None:
    with faults.here(tmp_path), faults.armed(tmp_path, point, "raise"):
        async with setting.consuming():
            ids = await setting.publish(uuid.uuid4(), uuid.uuid4())

            async def have_effects() -> bool:
                return sorted(await setting.effects()) == sorted(ids) and await setting.waiting() == 0

            await until(have_effects, True, within=20)
    assert sorted(await setting.effects()) == sorted(ids)
    assert await setting.parked() == []


@BOTH
async def test_a_consumer_that_stops_before_it_acknowledges_leaves_one_effect(
    setting: Setting, tmp_path: Path
) -> None:
    with faults.here(tmp_path), faults.armed(tmp_path, "consumer.after_commit", "hang"):
        async with setting.consuming():
            ids = await setting.publish(uuid.uuid4())
            await until(setting.effects, ids, within=20)
    async with setting.consuming():
        await until(setting.waiting, 0, within=20)
    assert await setting.effects() == ids
    assert setting.handling.tried == ids


@BOTH
async def test_an_event_that_is_worked_on_for_long_is_not_delivered_again(setting: Setting) -> None:
    setting.handling.go_on.clear()
    async with setting.consuming():
        (slow,) = await setting.publish(uuid.uuid4())

        async def told() -> bool:
            async with setting.server.client(ADMIN) as admin:
                heard = await admin.subscribe("$JS.ACK.SAMPAN_IDENTITY.notification.>")
                return [(await heard.next_msg(timeout=5)).data for _ in range(6)] == [b"+WPI"] * 6

        # Twice as long as an event stays with a consumer that says nothing.
        await until(told, wanted=True, within=20)
        setting.handling.go_on.set()
        await until(setting.effects, [slow], within=20)
        await until(setting.waiting, 0, within=20)
    assert setting.handling.tried == [slow]


@BOTH
async def test_an_event_in_the_hand_of_a_consumer_that_died_comes_again_soon(setting: Setting) -> None:
    setting.handling.go_on.clear()
    async with setting.consuming():
        (held,) = await setting.publish(uuid.uuid4())

        async def tried() -> list[uuid.UUID]:
            return setting.handling.tried

        await until(tried, [held], within=20)
    setting.handling.go_on.set()
    async with setting.consuming():
        await until(setting.effects, [held], within=20)
        await until(setting.waiting, 0, within=20)
    assert setting.handling.tried == [held, held]


async def test_what_always_fails_is_parked_and_others_pass_it_by(setting: Setting) -> None:
    poison = uuid.uuid4()
    setting.handling.poisonous.add(poison)
    async with setting.consuming():
        (bad,) = await setting.publish(poison)
        good = await setting.publish(*(uuid.uuid4() for _ in range(5)))
        await until(setting.effects, good, within=20)
        await until(setting.parked, [(bad, "LookupError", 3)], within=20)
        await until(setting.waiting, 0, within=20)
        assert setting.handling.tried.count(bad) == 3
        # Replayed too early, it stays where it is; replayed when mended, it has its effect.
        for mended in (False, True):
            if mended:
                setting.handling.poisonous.clear()
            async with setting.database.transaction() as connection:
                assert await inbox.ask_replay(connection, bad if mended else None) == 1
            tries = 5 if mended else 4

            async def tried() -> int:
                return setting.handling.tried.count(bad)

            await until(tried, tries, within=20)
        await until(setting.effects, [*good, bad], within=20)
        await until(setting.parked, [], within=20)


@BOTH
async def test_while_something_is_away_no_try_counts(setting: Setting) -> None:
    setting.handling.away = True
    async with setting.consuming():
        (one,) = await setting.publish(uuid.uuid4())

        async def tried_often() -> bool:
            return setting.handling.tried.count(one) > 2 * QUICK.event_tries

        await until(tried_often, True, within=20)
        assert await setting.parked() == []
        setting.handling.away = False
        await until(setting.effects, [one], within=20)


@BOTH
async def test_a_store_that_was_lost_is_filled_again_and_nothing_has_its_effect_twice(
    setting: Setting,
) -> None:
    async with setting.consuming():
        ids = await setting.publish(*(uuid.uuid4() for _ in range(20)))
        await until(setting.effects, ids, within=20)
        await setting.server.kill()
        setting.server.lose_store()
        more = await setting.publish(uuid.uuid4())
        await setting.server.start()
        await until(setting.effects, ids + more, within=30)
        # All came again, and are acknowledged.
        await until(setting.waiting, 0, within=20)
    assert await setting.effects() == ids + more


@BOTH
async def test_an_event_that_is_none_of_ours_is_left_out(setting: Setting) -> None:
    async with setting.server.client("identity") as client, setting.consuming():
        before = await setting.publish(uuid.uuid4())
        await until(setting.effects, before, within=20)
        await client.jetstream().publish(SUBJECT, b"without headers")
        after = await setting.publish(uuid.uuid4())
        await until(setting.effects, before + after, within=20)
        await until(setting.waiting, 0, within=20)


@pytest.mark.parametrize("setting", [True], indirect=True)
async def test_what_always_fails_is_parked_and_what_came_with_it_is_not(setting: Setting) -> None:
    poison = uuid.uuid4()
    setting.handling.poisonous.add(poison)
    good = await setting.publish(*(uuid.uuid4() for _ in range(20)))
    (bad,) = await setting.publish(poison)
    good += await setting.publish(*(uuid.uuid4() for _ in range(20)))
    async with setting.consuming():

        async def have_effects() -> bool:
            return sorted(await setting.effects()) == sorted(good)

        await until(have_effects, True, within=20)
        await until(setting.parked, [(bad, "LookupError", QUICK.event_tries)], within=20)
        await until(setting.waiting, 0, within=20)
    assert sorted(await setting.effects()) == sorted(good)


@pytest.mark.parametrize("setting", [True], indirect=True)
async def test_events_that_wait_have_their_effects_together_and_each_once(setting: Setting) -> None:
    ids = await setting.publish(*(uuid.uuid4() for _ in range(200)))
    await until(setting.published, 200, within=20)
    # The same once more, under the same ids, among others that are new.
    async with setting.server.client("identity") as client:
        for one in ids[:50]:
            headers = {"ce-id": str(one), "ce-subject": str(one), "ce-aggregateversion": "1"}
            await client.jetstream().publish(SUBJECT, b"", headers=headers)
    more = await setting.publish(uuid.uuid4())
    async with setting.consuming():
        await until(setting.effects, ids + more, within=20)
        await until(setting.waiting, 0, within=20)
    assert await setting.effects() == ids + more
    transactions = await setting.owner.fetchval("SELECT count(DISTINCT xmin::text) FROM effects")
    assert transactions <= 201 / QUICK.events_together + 2


async def test_ids_are_forgotten_by_age(setting: Setting) -> None:
    async with setting.consuming():
        ids = await setting.publish(uuid.uuid4(), uuid.uuid4())
        await until(setting.effects, ids, within=20)
    await setting.owner.execute(
        "UPDATE inbox SET recorded_at = now() - interval '20 days' WHERE event_id = $1", ids[0]
    )
    async with background(setting.consumer.purge()):

        async def kept() -> list[uuid.UUID]:
            return [uuid.UUID(str(row[0])) for row in await setting.owner.fetch("SELECT event_id FROM inbox")]

        await until(kept, ids[1:], within=20)


async def test_models_and_migrations_agree(notification_database: Clone) -> None:
    await migrations.check("notification", notification_database.owner_url)
