"""Events leave the outbox after their commit, in order, and none is lost whatever dies."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from nats.aio.client import Client

from sampan.identity.v1 import events_pb2
from services.mesh import migrations
from services.mesh.bus import flushed
from services.mesh.database import Database
from services.mesh.outbox import Event, Keeper, Outbox
from services.mesh.settings import MeshSettings
from tests.support import faults
from tests.support.bus import ADMIN, NatsServer, kept_in, log, nats_server, on_bus, relaying
from tests.support.databases import Clone
from tests.support.waiting import until

SUBJECT = "sampan.identity.account.created"
STREAM = "SAMPAN_IDENTITY"
# So slow that nothing here waits for a poll.
WOKEN = MeshSettings(relay_poll_seconds=60)
# A repeated id counts as a new one soon, and the stream is looked after all the time.
LOOKS = {"duplicates_seconds": 0.1, "look_seconds": 0.2}
QUICK = MeshSettings(relay_poll_seconds=0.05)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(tmp_path) as found:
        yield found


@pytest.fixture
async def database(identity_database: Clone, owner: asyncpg.Connection) -> AsyncIterator[Database]:
    await owner.execute("TRUNCATE outbox, outbox_head")
    database = Database(identity_database.runtime_url, pool=2, timeout=4, name="test")
    yield database
    await database.close()


def event(said: str = "") -> Event:
    """An event that no other test makes."""
    account_id = uuid.uuid4()
    return Event(SUBJECT, account_id, 1, events_pb2.AccountCreated(account_id=said or str(account_id)))


async def write(database: Database, outbox: Outbox, *events: Event) -> None:
    async with database.transaction() as connection:
        await outbox.add(connection, *events)


async def write_and_fail(database: Database, outbox: Outbox, undone: Event) -> None:
    async with database.transaction() as connection:
        await outbox.add(connection, undone)
        raise KeyError


def nobody() -> None:
    """Nothing is woken."""


async def unpublished(owner: asyncpg.Connection) -> int:
    return int(await owner.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL"))


async def drained(owner: asyncpg.Connection, *, within: float = 20) -> float:
    return await until(lambda: unpublished(owner), 0, within=within)


async def in_stream(client: Client) -> list[str]:
    """Ids of the events in the stream, in its order."""
    return [one.headers["ce-id"] for one in await kept_in(client, "identity", STREAM) if one.headers]


async def test_an_event_goes_out_after_its_commit_and_not_after_a_rollback(
    server: NatsServer, database: Database, identity_database: Clone, owner: asyncpg.Connection
) -> None:
    async with (
        on_bus(server, "identity") as bus,
        relaying(identity_database, bus, WOKEN) as relay,
        server.client("operator") as client,
    ):
        heard = await client.subscribe("sampan.>")
        await flushed(client)
        outbox = Outbox(relay.wake)
        undone, done = event(), event()
        with pytest.raises(KeyError):
            await write_and_fail(database, outbox, undone)
        await write(database, outbox, done)
        message = await heard.next_msg(timeout=10)
        assert message.headers is not None
        assert message.subject == SUBJECT
        assert message.data == done.payload.SerializeToString()
        assert message.headers["ce-time"].endswith("Z")
        told = {name: message.headers[name] for name in message.headers if name != "ce-time"}
        assert told == {
            "Nats-Msg-Id": str(done.id),
            "Nats-Expected-Stream": STREAM,
            "ce-specversion": "1.0",
            "ce-id": str(done.id),
            "ce-source": "/sampan/identity",
            "ce-type": SUBJECT,
            "ce-subject": str(done.aggregate_id),
            "ce-aggregateversion": "1",
            "content-type": "application/protobuf",
        }
        await drained(owner)
        assert await owner.fetchval("SELECT count(*) FROM outbox") == 1


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_a_backlog_goes_out_in_the_order_in_which_it_was_written(
    server: NatsServer, database: Database, identity_database: Clone, owner: asyncpg.Connection, count: int
) -> None:
    events = [event() for _ in range(count)]
    for first in range(0, len(events), 1000):
        await write(database, Outbox(nobody), *events[first : first + 1000])
    async with on_bus(server, "identity") as bus:
        await bus.connected()
        started = time.monotonic()
        async with relaying(identity_database, bus, QUICK):
            await drained(owner, within=60)
            print(f"drained {len(events) / (time.monotonic() - started):.0f} rows/s")
    async with server.client(ADMIN) as client:
        assert await in_stream(client) == [str(one.id) for one in events]


async def test_a_relay_lets_events_gather_only_when_it_has_caught_up(
    server: NatsServer, database: Database, identity_database: Clone, owner: asyncpg.Connection
) -> None:
    await write(database, Outbox(nobody), *(event() for _ in range(10)))
    async with on_bus(server, "identity") as bus:
        await bus.connected()
        async with relaying(identity_database, bus, QUICK, most=3, gather=3600):
            await drained(owner)


async def test_rows_wait_while_nats_is_away(
    server: NatsServer, database: Database, identity_database: Clone, owner: asyncpg.Connection
) -> None:
    async with on_bus(server, "identity") as bus, relaying(identity_database, bus, QUICK) as relay:
        outbox = Outbox(relay.wake)
        await write(database, outbox, event())
        await drained(owner)
        await server.kill()
        await write(database, outbox, *(event() for _ in range(100)))
        assert await unpublished(owner) == 100
        await server.start()
        await drained(owner)


async def test_a_service_starts_while_nats_is_away_and_publishes_when_it_comes(
    server: NatsServer, database: Database, identity_database: Clone, owner: asyncpg.Connection
) -> None:
    await server.kill()
    async with on_bus(server, "identity") as bus, relaying(identity_database, bus, QUICK) as relay:
        await write(database, Outbox(relay.wake), event())
        assert await unpublished(owner) == 1
        await server.start()
        await drained(owner)


async def test_what_the_bus_refuses_holds_up_what_comes_after_it_and_nothing_is_lost(
    server: NatsServer, database: Database, identity_database: Clone, owner: asyncpg.Connection
) -> None:
    events = [event(), event(), event("x" * 2000), event()]
    async with (
        on_bus(server, "identity") as bus,
        relaying(identity_database, bus, QUICK) as relay,
        server.client(ADMIN) as admin,
    ):
        await write(database, Outbox(relay.wake), events[0])
        await drained(owner)
        jetstream = admin.jetstream()
        config = (await jetstream.stream_info(STREAM)).config
        await jetstream.update_stream(config.evolve(max_msg_size=1000))
        # In one batch, of which only the last message is acknowledged.
        await write(database, Outbox(relay.wake), *events[1:])

        async def kept() -> int:
            return (await jetstream.stream_info(STREAM)).state.messages

        await until(kept, 2, within=20)
        await jetstream.update_stream(config)
        await drained(owner)
        assert await in_stream(admin) == [str(one.id) for one in events]


async def test_publishing_keeps_one_subscription_however_often(
    server: NatsServer, database: Database, identity_database: Clone, owner: asyncpg.Connection
) -> None:
    async with on_bus(server, "identity") as bus, relaying(identity_database, bus, QUICK) as relay:
        for _ in range(5):
            await write(database, Outbox(relay.wake), event())
            await drained(owner)
        # One for the answers to publishes, one for those to questions.
        assert bus.subscriptions <= 2


async def test_a_relay_that_dies_before_it_marks_publishes_the_same_id_again(
    server: NatsServer,
    database: Database,
    identity_database: Clone,
    owner: asyncpg.Connection,
    tmp_path: Path,
) -> None:
    sent = event()
    await write(database, Outbox(nobody), sent)
    with faults.here(tmp_path), faults.armed(tmp_path, "relay.after_publish", "hang"):
        async with on_bus(server, "identity") as bus, relaying(identity_database, bus, QUICK):

            async def hangs() -> int:
                from services.mesh.faults import read

                return read(tmp_path, "relay.after_publish").fired

            await until(hangs, 1, within=20)
        assert await unpublished(owner) == 1
    async with on_bus(server, "identity") as bus, relaying(identity_database, bus, QUICK):
        await drained(owner)
    async with server.client(ADMIN) as client:
        assert await in_stream(client) == [str(sent.id)]


async def test_another_relay_goes_on_when_one_loses_its_lock(
    server: NatsServer, database: Database, identity_database: Clone, owner: asyncpg.Connection
) -> None:
    async def holders() -> list[int]:
        rows = await owner.fetch(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return [row[0] for row in rows]

    async with (
        on_bus(server, "identity") as bus,
        relaying(identity_database, bus, QUICK),
        relaying(identity_database, bus, QUICK),
    ):

        async def one_holds() -> int:
            return len(await holders())

        await until(one_holds, 1, within=20)
        (pid,) = await holders()
        admin = await asyncpg.connect(identity_database.admin_url)
        await admin.execute("SELECT pg_terminate_backend($1)", pid)
        await admin.close()
        await write(database, Outbox(nobody), event())
        await drained(owner)
        assert await holders() != [pid]


async def test_a_relay_outlives_a_connection_that_is_cut_in_whatever_it_does(
    server: NatsServer, database: Database, identity_database: Clone, owner: asyncpg.Connection
) -> None:
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'identity relay'"
    busy = MeshSettings(relay_poll_seconds=0.001)
    async with on_bus(server, "identity") as bus, relaying(identity_database, bus, busy) as relay:
        admin = await asyncpg.connect(identity_database.admin_url)
        cuts = 0
        # A relay that has ended is no more there to be cut.
        async with asyncio.timeout(60):
            while cuts < 50:
                await write(database, Outbox(relay.wake), event())
                cuts += len(await admin.fetch(cut))
        await admin.close()
        await drained(owner)


@pytest.mark.parametrize("how", ["stream deleted", "store deleted", "purged"])
async def test_a_stream_that_lost_its_events_is_filled_again(
    server: NatsServer, database: Database, identity_database: Clone, owner: asyncpg.Connection, how: str
) -> None:
    events = [event() for _ in range(50)]
    await write(database, Outbox(nobody), *events)
    async with on_bus(server, "identity") as bus, relaying(identity_database, bus, QUICK, **LOOKS):
        await drained(owner)
    if how == "store deleted":
        await server.kill()
        server.lose_store()
        await server.start()
    else:
        async with server.client(ADMIN) as admin:
            jetstream = admin.jetstream()
            await (
                jetstream.delete_stream(STREAM) if how == "stream deleted" else jetstream.purge_stream(STREAM)
            )
    async with (
        on_bus(server, "identity") as bus,
        relaying(identity_database, bus, QUICK, **LOOKS),
        server.client(ADMIN) as admin,
    ):

        async def filled() -> int:
            found = await admin.jetstream().streams_info()
            return sum(one.state.messages for one in found)

        await until(filled, 50, within=20)
        assert await in_stream(admin) == [str(one.id) for one in events]


async def test_a_stream_purged_while_it_remembers_ids_is_filled_when_it_has_forgotten_them(
    server: NatsServer, database: Database, identity_database: Clone, owner: asyncpg.Connection
) -> None:
    events = [event() for _ in range(5)]
    await write(database, Outbox(nobody), *events)
    looks = {**LOOKS, "duplicates_seconds": 2.0}
    async with (
        on_bus(server, "identity") as bus,
        relaying(identity_database, bus, QUICK, **looks),
        server.client(ADMIN) as admin,
    ):
        await drained(owner)
        await admin.jetstream().purge_stream(STREAM)

        async def filled() -> int:
            return (await admin.jetstream().stream_info(STREAM)).state.messages

        await until(filled, 5, within=20)
        await drained(owner)
        assert await in_stream(admin) == [str(one.id) for one in events]


async def test_the_service_s_role_can_neither_remove_events_nor_change_them(
    database: Database, identity_database: Clone
) -> None:
    await write(database, Outbox(nobody), event())
    runtime = await asyncpg.connect(identity_database.runtime_url)
    for statement in (
        "DELETE FROM outbox",
        "UPDATE outbox SET payload = ''",
        "DROP TABLE outbox",
        "TRUNCATE outbox",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await runtime.execute(statement)
    await runtime.close()


async def days(owner: asyncpg.Connection) -> set[str]:
    rows = await owner.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'outbox'::regclass"
    )
    return {row[0] for row in rows}


async def test_old_days_go_when_published_and_new_ones_are_there_ahead(
    database: Database, owner: asyncpg.Connection
) -> None:
    keeper = Keeper(database, log, days=7)
    await keeper.once()
    present = await days(owner)
    assert len(present) == 10
    for day, age in (("outbox_day_20200101", "2020-01-01"), ("outbox_day_20200102", "2020-01-02")):
        await owner.execute(
            f"CREATE TABLE {day} PARTITION OF outbox FOR VALUES FROM ('{age} 00:00+00') TO ('{age} 23:59+00')"
        )
    insert = (
        "INSERT INTO outbox (id, subject, aggregate_id, aggregate_version, payload, created_at, "
        "published_at) VALUES (gen_random_uuid(), 's', gen_random_uuid(), 1, '', $1::text::timestamptz, $2)"
    )
    await owner.execute(insert, "2020-01-01 12:00+00", None)
    # No day is there for this one: it is kept nevertheless.
    await owner.execute(insert, "2019-01-01 12:00+00", None)
    await keeper.once()
    assert await days(owner) == present | {"outbox_day_20200101"}
    await owner.execute("UPDATE outbox SET published_at = now()")
    await keeper.once()
    assert await days(owner) == present
    assert await owner.fetchval("SELECT count(*) FROM outbox") == 0


async def test_models_and_migrations_agree(identity_database: Clone) -> None:
    await migrations.check("identity", identity_database.owner_url)


async def test_a_service_can_publish_under_its_own_name_only(server: NatsServer) -> None:
    async with server.client("notification") as client, server.client("operator") as listener:
        heard = await listener.subscribe("sampan.>")
        await flushed(listener)
        for subject in (
            "sampan.identity.account.created",
            "$JS.API.STREAM.DELETE.SAMPAN_IDENTITY",
            "$JS.API.STREAM.CREATE.SAMPAN_IDENTITY",
            "$JS.API.CONSUMER.MSG.NEXT.SAMPAN_IDENTITY.profile",
            "_INBOX.identity.x",
        ):
            await client.publish(subject, b"forged")
        for subject in ("sampan.>", "_INBOX.identity.>", "$JS.API.>"):
            await client.subscribe(subject)
        await client.publish("sampan.notification.own", b"true")
        await flushed(client)
        assert (await heard.next_msg(timeout=10)).data == b"true"

        async def refused() -> int:
            return len(client.told)

        await until(refused, 8, within=20)
        assert all("permissions violation" in one for one in client.told)
