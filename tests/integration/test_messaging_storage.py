"""How messages lie in the database: migrations, dropping by age, statements, in-place updates, indexes."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh import logs
from services.mesh.database import Database
from services.messaging.retention import Retention
from tests.support.chat import Talkers
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.waiting import until


async def age(owner: asyncpg.Connection, dialog_id: str, up_to: int, days: int) -> None:
    """Makes events of a dialog older."""
    for table in ("messages", "changes"):
        await owner.execute(
            f"UPDATE {table} SET created_at = created_at - make_interval(days => $3) "  # noqa: S608
            "WHERE dialog_id = $1 AND seq <= $2",
            uuid.UUID(dialog_id),
            up_to,
            days,
        )


async def test_what_is_old_is_dropped_but_never_the_newest_and_ids_stay_taken(
    people: Talkers, messaging_database: Clone, messaging_owner: asyncpg.Connection
) -> None:
    one, other = await people.some(2)
    dialog, quiet = await one.direct(other), await one.group(other)
    said = [
        await one.say(dialog.id, f"{n}", client_message_id=f"k{n}", mentions=[other.id]) for n in range(10)
    ]
    await one.edit(said[1].id, "changed")
    await other.AddReaction(pb.AddReactionRequest(id=said[2].id, emoji="👍"))
    # 1 is the dialog itself, 2 to 11 are messages, 12 and 13 what was done with them.
    await age(messaging_owner, dialog.id, 7, 40)
    await age(messaging_owner, quiet.id, 1, 40)
    database = Database(messaging_database.runtime_url, pool=1, timeout=5, name="tests")
    try:
        kept = Retention(database, logs.logger("tests"), days=30, pause=60)
        assert await kept.once() == 7
        assert await kept.once() == 0
    finally:
        await database.close()
    seen = await other.see(dialog.id)
    assert (seen.first_seq, seen.last_seq, seen.unread_count, seen.mention_count) == (8, 13, 4, 4)
    assert (await other.see(quiet.id)).first_seq == 1
    assert [message.seq for message in await one.history(dialog.id)] == [8, 9, 10, 11]
    below = await one.ListMessages(pb.ListMessagesRequest(dialog_id=dialog.id, before_seq=8))
    assert (list(below.messages), below.has_more) == ([], False)
    assert await reason(one.GetMessage(pb.GetMessageRequest(id=said[0].id))) == "MESSAGE_NOT_FOUND"
    for table in ("edits", "reactions", "mentions", "messages", "changes"):
        count = f"SELECT count(*) FROM {table} WHERE dialog_id = $1 AND seq < 8"  # noqa: S608
        assert await messaging_owner.fetchval(count, uuid.UUID(dialog.id)) == 0
    again = await one.say(dialog.id, "0", client_message_id="k0", mentions=[other.id])
    assert (again.id, again.seq, again.content.text) == (said[0].id, 2, "")
    assert again.HasField("deleted_at")
    assert (await one.say(dialog.id, "new", client_message_id="k10")).seq == 14
    marked = await other.read(said[8].id)
    assert marked.unread_count == 2


async def test_a_send_changes_its_dialog_in_place(
    people: Talkers, messaging_owner: asyncpg.Connection
) -> None:
    async def updates() -> tuple[int, int]:
        row = await messaging_owner.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'dialogs'"
        )
        assert row is not None
        return row["n_tup_upd"], row["n_tup_hot_upd"]

    one, other = await people.some(2)
    dialog = await one.direct(other)
    for n in range(200):
        await one.say(dialog.id, f"{n}")
    # Backends say what they have done a little later, at the latest when they are idle.
    while (await updates())[0] < 150:
        await messaging_owner.execute("SELECT pg_sleep(0.05)")
        await one.say(dialog.id)
    done, in_place = await updates()
    assert in_place >= done * 0.9


@pytest.mark.long
async def test_no_query_reads_a_table_where_there_are_a_million_messages(
    people: Talkers, messaging_database: Clone, messaging_owner: asyncpg.Connection
) -> None:
    one, other, third = await people.some(3)
    dialog, group = await one.direct(other), await one.group(other, third)
    message = await one.say(group.id, "first", mentions=[other.id])
    await fill(messaging_owner, one.id)
    admin = await asyncpg.connect(messaging_database.admin_url)
    try:
        await admin.execute("SELECT pg_stat_reset()")
        for who in (one, other):
            made = await who.say(
                group.id, "a", mentions=[third.id], reply_to=message.id, thread_id=message.id
            )
            await who.edit(made.id, "b", other.id)
            await who.ListEdits(pb.ListEditsRequest(id=made.id))
            await who.AddReaction(pb.AddReactionRequest(id=message.id, emoji="👍"))
            await who.RemoveReaction(pb.RemoveReactionRequest(id=message.id, emoji="👍"))
            await who.read(made.id)
            await who.history(group.id, thread_id=message.id)
            await who.history(group.id, after_seq=1)
            await who.history(dialog.id)
            await who.see(dialog.id)
            await who.ListDialogs(pb.ListDialogsRequest(limit=100))
            await who.ListMembers(pb.ListMembersRequest(dialog_id=group.id))
            await who.SendTyping(pb.SendTypingRequest(dialog_id=dialog.id))
            await who.DeleteMessage(pb.DeleteMessageRequest(id=made.id))
        # Backends say what they have done at the latest when they have been idle for 10 s.
        await until(often_looked_up(admin), True, within=30)
        await admin.execute("SELECT pg_sleep(11)")
        scanned = await admin.fetch(
            "SELECT relname, seq_scan, seq_tup_read FROM pg_stat_user_tables "
            "WHERE relname = ANY ($1) AND seq_tup_read > 1000",
            ["messages", "changes", "members", "dialogs", "mentions", "reactions", "edits"],
        )
        assert [tuple(row) for row in scanned] == []
    finally:
        await admin.close()


def often_looked_up(admin: asyncpg.Connection) -> Callable[[], Awaitable[bool]]:
    """Whether the indexes of messages were used often since the statistics were reset."""

    async def looked_up() -> bool:
        found = "SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'messages'"
        return int(await admin.fetchval(found)) > 40

    return looked_up


async def fill(owner: asyncpg.Connection, user_id: str) -> None:
    """A million messages in 1000 of 30,000 dialogs; somebody is in a hundred of those."""
    await owner.execute(
        """
        INSERT INTO dialogs (id, kind, created_by, seq, message_no, member_count)
        SELECT md5('d' || n)::uuid, 2, gen_random_uuid(), 1000, 1000, 20 FROM generate_series(1, 30000) n
        """
    )
    await owner.execute(
        """
        INSERT INTO members (dialog_id, user_id, role, joined_seq, inviter)
        SELECT md5('d' || n)::uuid, md5('u' || (n + m) % 500)::uuid, 1, 1, gen_random_uuid()
        FROM generate_series(1, 1000) n, generate_series(1, 20) m
        """
    )
    await owner.execute(
        """
        INSERT INTO members (dialog_id, user_id, role, joined_seq, inviter)
        SELECT md5('d' || n)::uuid, $1, 1, 1, $1 FROM generate_series(1, 100) n
        """,
        uuid.UUID(user_id),
    )
    await owner.execute(
        """
        INSERT INTO messages
            (dialog_id, seq, message_no, sender_id, client_message_id, type, text, request_hash)
        SELECT md5('d' || n)::uuid, s, s, md5('u' || (n + s) % 500)::uuid, 'k' || s, 'text', 'hello ' || s, ''
        FROM generate_series(1, 1000) n, generate_series(1, 1000) s
        """,
        timeout=300,
    )
    await owner.execute("ANALYZE", timeout=120)
