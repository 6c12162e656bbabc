"""How messages lie in the database: dropping by age, in-place updates."""

from __future__ import annotations

import uuid

import asyncpg

from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh import logs
from services.mesh.database import Database
from services.messaging.retention import Retention
from tests.support.chat import Talkers
from tests.support.databases import Clone
from tests.support.errors import reason


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
