"""The log of dialogs goes to JetStream: all of it, in order, whatever is away or dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from sampan.messaging.v1 import events_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh import faults as points
from services.mesh.app import App
from services.mesh.bus import flushed
from services.messaging.live import wire
from services.messaging.relaying import LogSource
from services.stack.pki import Pki
from tests.support import faults
from tests.support.bus import NatsServer, kept_in, nats_server
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.live import Chat, chat
from tests.support.waiting import until

STREAM = "SAMPAN_MESSAGING"


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A NATS server of one test's own."""
    async with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
async def tables(messaging_database: Clone) -> AsyncIterator[asyncpg.Connection]:
    """Messaging's tables, in which nobody knows of a stream of the test before."""
    connection = await asyncpg.connect(messaging_database.owner_url)
    await connection.execute("TRUNCATE outbox_head, relayed")
    await connection.execute("INSERT INTO relayed (dialog_id, seq) SELECT id, seq FROM dialogs")
    # Else an empty stream would be one that has lost all this.
    await connection.execute("UPDATE dialogs SET active_at = now() - interval '30 days'")
    yield connection
    await connection.close()


@pytest.fixture
async def live(
    tables: asyncpg.Connection,
    messaging_database: Clone,
    identity: tuple[App, str],
    identity_database: Clone,
    pki: Pki,
    nats: NatsServer,
) -> AsyncIterator[Chat]:
    """Two replicas of messaging that hear each other; one of them is the relay."""
    async with chat(messaging_database, identity, identity_database.owner_url, pki, nats) as found:
        await found.hears(True)
        yield found


async def all_told(tables: asyncpg.Connection, within: float = 20) -> None:
    """Waits until nothing of any dialog is left to be published."""

    async def left() -> int:
        return int(
            await tables.fetchval(
                "SELECT count(*) FROM dialogs d LEFT JOIN relayed r ON r.dialog_id = d.id"
                " WHERE d.seq > coalesce(r.seq, 0)"
            )
        )

    await until(left, 0, within=within)


async def told(nats: NatsServer) -> list[Msg]:
    """All that is in the stream, in its order."""
    async with nats.client("messaging") as client:
        return await kept_in(client, "messaging", STREAM)


def versions(messages: list[Msg]) -> dict[str, list[int]]:
    """Numbers of events by dialog, in the order of the stream."""
    found: dict[str, list[int]] = {}
    for one in messages:
        headers = one.headers or {}
        found.setdefault(headers["ce-subject"], []).append(int(headers["ce-aggregateversion"]))
    return found


async def test_all_that_happens_in_a_dialog_is_told_by_ids(
    live: Chat, nats: NatsServer, tables: asyncpg.Connection
) -> None:
    ann, bob, cat = await live.people(3)
    dialog = await ann.group(bob, title="canary title")
    said = await ann.say(dialog.id, "canary text")
    more = {"reply_to": said.id, "thread_id": said.id, "mentions": [ann.id]}
    reply = await bob.say(dialog.id, "canary reply", **more)
    await ann.edit(said.id, "canary edit")
    await bob.AddReaction(pb.AddReactionRequest(id=said.id, emoji="👍"))
    await bob.RemoveReaction(pb.RemoveReactionRequest(id=said.id, emoji="👍"))
    await ann.UpdateDialog(pb.UpdateDialogRequest(dialog_id=dialog.id, title="canary name"))
    await ann.AddMember(pb.AddMemberRequest(dialog_id=dialog.id, user_id=cat.id))
    role = pb.SetMemberRoleRequest(dialog_id=dialog.id, user_id=cat.id, role="admin")
    await ann.SetMemberRole(role)
    await ann.RemoveMember(pb.RemoveMemberRequest(dialog_id=dialog.id, user_id=cat.id))
    await ann.DeleteMessage(pb.DeleteMessageRequest(id=said.id))
    await all_told(tables)

    messages = await told(nats)
    assert versions(messages) == {dialog.id: list(range(1, 12))}
    assert [one.subject.removeprefix("sampan.messaging.") for one in messages] == [
        "dialog.created",
        "message.created",
        "message.created",
        "message.edited",
        "reaction.added",
        "reaction.removed",
        "dialog.updated",
        "member.added",
        "member.role_changed",
        "member.removed",
        "message.deleted",
    ]
    assert not any(b"canary" in one.data or "👍".encode() in one.data for one in messages)
    made = events_pb2.DialogTouched.FromString(messages[0].data)
    assert (made.kind, set(made.member_ids)) == ("group", {ann.id, bob.id})
    written = events_pb2.MessageWritten.FromString(messages[1].data)
    assert (written.message_id, written.sender_id, written.type) == (said.id, ann.id, "text")
    answer = events_pb2.MessageWritten.FromString(messages[2].data)
    assert (answer.message_id, answer.reply_to, answer.thread_id) == (reply.id, said.id, said.id)
    assert list(answer.mentions) == [ann.id]
    assert events_pb2.MessageTouched.FromString(messages[3].data).message_id == said.id
    added = events_pb2.MembershipTouched.FromString(messages[7].data)
    assert (added.user_id, added.role, added.actor_id) == (cat.id, "member", ann.id)


async def test_what_many_write_at_once_is_told_without_gaps_in_the_order_of_each_dialog(
    live: Chat, nats: NatsServer, tables: asyncpg.Connection
) -> None:
    ann, bob, *others = await live.people(12)
    dialogs = [await ann.group(bob, other) for other in others]
    both = [ann, live.at(1, bob)]
    await asyncio.gather(
        *(who.say(dialog.id, str(n)) for n in range(20) for dialog in dialogs for who in both)
    )
    await all_told(tables)
    assert versions(await told(nats)) == {dialog.id: list(range(1, 42)) for dialog in dialogs}


async def test_no_more_events_are_taken_at_once_than_the_relay_asks_for(
    live: Chat, tables: asyncpg.Connection
) -> None:
    ann, bob, *others = await live.people(7)
    for other in others:
        await ann.group(bob, other)
    await all_told(tables)
    async with tables.transaction():
        await tables.execute("TRUNCATE relayed")
        rows, more = await LogSource().fetch(tables, 3)
    assert len(rows) == 3
    assert more


async def test_what_is_told_live_is_kept_by_no_stream(
    live: Chat, nats: NatsServer, tables: asyncpg.Connection
) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    async with nats.client("operator") as client:
        await client.subscribe("sampan.messaging.>", cb=hear)
        await flushed(client)
        await ann.say(dialog.id)
        await all_told(tables)

        async def heard_live() -> bool:
            return any(subject.startswith(wire.LIVE) for subject in heard)

        await until(heard_live, True, within=20)
    assert not any(one.subject.startswith(wire.LIVE) for one in await told(nats))


async def test_what_was_committed_by_a_process_that_told_nobody_is_told(
    live: Chat, nats: NatsServer, tables: asyncpg.Connection, tmp_path: Path
) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    await all_told(tables)
    with faults.here(tmp_path), faults.armed(tmp_path, "messaging.send.after_commit", "raise"):
        assert await reason(ann.say(dialog.id)) == "INTERNAL"
    await all_told(tables)
    assert versions(await told(nats)) == {dialog.id: [1, 2]}


async def test_without_nats_events_wait_and_none_is_missing_when_it_is_back(
    live: Chat, nats: NatsServer, tables: asyncpg.Connection
) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    await ann.say(dialog.id)
    await all_told(tables)
    await nats.kill()
    for _ in range(20):
        await ann.say(dialog.id)
    await nats.start()
    await all_told(tables)
    assert versions(await told(nats)) == {dialog.id: list(range(1, 23))}


async def test_what_was_published_and_not_noted_is_in_the_stream_once(
    live: Chat, nats: NatsServer, tables: asyncpg.Connection, messaging_database: Clone, tmp_path: Path
) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    await all_told(tables)
    with faults.here(tmp_path), faults.armed(tmp_path, "relay.after_publish", "hang"):
        await ann.say(dialog.id)

        async def fired() -> int:
            return points.read(tmp_path, "relay.after_publish").fired

        await until(fired, 1, within=20)
        # It hangs between the bus and the database; its connection is cut, and with it goes the lock.
        relays = await asyncpg.connect(messaging_database.runtime_url)
        await relays.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'messaging relay'"
        )
        await relays.close()
        await all_told(tables)
    assert versions(await told(nats)) == {dialog.id: [1, 2]}


async def test_a_stream_that_has_lost_all_is_filled_again(
    live: Chat, nats: NatsServer, tables: asyncpg.Connection
) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    for _ in range(10):
        await ann.say(dialog.id)
    await all_told(tables)
    await nats.kill()
    nats.lose_store()
    await nats.start()

    async def kept() -> int:
        async with nats.client("messaging") as client:
            try:
                return (await client.jetstream().stream_info(STREAM)).state.messages
            except NotFoundError:
                return 0

    await until(kept, 11, within=20)
    assert versions(await told(nats)) == {dialog.id: list(range(1, 12))}
