"""Among a million messages: no statement of messaging reads a table, each has its index."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.fast_database import FastDatabase
from services.messaging import repository_relay
from services.messaging.repository_live import LiveRepository
from tests.support import databases
from tests.support.chat import Talker, Talkers
from tests.support.databases import Clone
from tests.support.stack import Stack, execute
from tests.support.waiting import until

pytestmark = pytest.mark.long

# Those with many rows: here a look through the whole table is a fault, whatever it is for.
LARGE = ("messages", "changes", "members", "dialogs", "relayed", "devices")
# How PostgreSQL names the ways in which it goes through all rows of a table.
SCAN = re.compile(r"Seq Scan on (?:public\.)?(\w+)")
MARK = "all statements were sent"


@pytest.fixture(scope="module")
async def messaging_database(stack: Stack) -> AsyncIterator[Clone]:
    """A migrated and empty database of messaging whose server logs the plan of each statement."""
    async with databases.clone(stack, "messaging") as found:
        for setting in (
            "session_preload_libraries = 'auto_explain'",
            "auto_explain.log_min_duration = 0",
            # Those within functions, too: post_messages.
            "auto_explain.log_nested_statements = on",
        ):
            await execute(found.admin_url, f'ALTER DATABASE "{found.name}" SET {setting}')
        yield found


@dataclass(frozen=True)
class Plans:
    """The server's log, from now on."""

    log: Path
    database: str
    start: int

    @classmethod
    def of(cls, stack: Stack, database: Clone) -> Plans:
        """From here on."""
        log = stack.home / "logs" / "postgres.log"
        return cls(log, database.name, log.stat().st_size)

    def text(self) -> str:
        """What was logged of the database: with each entry its statement and its plan."""
        with self.log.open(errors="replace") as log:
            log.seek(self.start)
            entries = re.split(r"(?m)^(?=\d{4}-\d\d-\d\d )", log.read())
        return "".join(entry for entry in entries if f"@{self.database} " in entry)

    async def complete(self, connection: asyncpg.Connection) -> str:
        """All of it, when what was sent before is written."""
        await connection.execute(f"SELECT '{MARK}'")

        async def written() -> bool:
            return MARK in self.text()

        await until(written, True, within=20)
        return self.text()


async def test_every_statement_has_an_index(
    people: Talkers, stack: Stack, messaging_database: Clone, messaging_owner: asyncpg.Connection
) -> None:
    one, other, third = await people.some(3)
    dialog, group = await one.direct(other), await one.group(other, third)
    message = await one.say(group.id, "first", mentions=[other.id])
    await fill(messaging_owner, one.id)
    plans = Plans.of(stack, messaging_database)
    for who in (one, other):
        await use(who, third, dialog.id, group.id, message.id)
    await follow(messaging_database, [one, other], [dialog.id, group.id])
    said = await plans.complete(messaging_owner)
    # What was looked at, so that nothing passes by not being logged.
    for table in ("messages", "members", "dialogs", "relayed", "devices"):
        assert re.search(rf"Index (Only )?Scan using \w+ on {table}\b", said), table
    for entry in re.split(r"(?m)^(?=\d{4}-\d\d-\d\d )", said):
        assert not set(SCAN.findall(entry)) & set(LARGE), entry[-3000:]


async def use(who: Talker, third: Talker, dialog_id: str, group_id: str, message_id: str) -> None:
    """All that somebody does by calls."""
    made = await who.say(group_id, "a", mentions=[third.id], reply_to=message_id, thread_id=message_id)
    await who.edit(made.id, "b", third.id)
    await who.ListEdits(pb.ListEditsRequest(id=made.id))
    await who.GetMessage(pb.GetMessageRequest(id=made.id))
    await who.AddReaction(pb.AddReactionRequest(id=message_id, emoji="👍"))
    await who.RemoveReaction(pb.RemoveReactionRequest(id=message_id, emoji="👍"))
    await who.read(made.id)
    await who.history(group_id, thread_id=message_id)
    await who.history(group_id, after_seq=1)
    await who.history(group_id, before_seq=3)
    await who.history(dialog_id)
    await who.see(dialog_id)
    await who.ListDialogs(pb.ListDialogsRequest(limit=100))
    await who.ListMembers(pb.ListMembersRequest(dialog_id=group_id))
    await who.SendTyping(pb.SendTypingRequest(dialog_id=dialog_id))
    await who.DeleteMessage(pb.DeleteMessageRequest(id=made.id))


async def follow(database: Clone, people: list[Talker], dialogs: list[str]) -> None:
    """All that live delivery and the relay read and write."""
    users = [uuid.UUID(who.id) for who in people]
    crowded = [uuid.UUID(found) for found in dialogs]
    fast = FastDatabase(database.runtime_url, pool=1, timeout=20, name="tests")
    live, recently = LiveRepository(fast), time.time() - 600
    try:
        found = (await live.memberships(users))[users[0]].dialogs
        everywhere = [one.dialog_id for one in found]
        assert len(everywhere) > 100
        await live.heads(everywhere)
        await live.events([(one.dialog_id, max(0, one.last_seq - 10), one.last_seq) for one in found])
        await live.floors([(one, recently) for one in crowded])
        await live.parted([(user, one) for user in users for one in everywhere])
        await live.receipts(everywhere, users[0])
        await live.keep([(user, f"phone-{at}", b"token", at) for at, user in enumerate(users)])
        await live.device(users[0], "phone-0")
        await live.shared(users)
        await live.blocks(users)
    finally:
        await fast.close()
    connection = await asyncpg.connect(database.runtime_url)
    try:
        some = await repository_relay.ahead(connection, uuid.UUID(int=0), 1000)
        assert some.looked == 1000
        await repository_relay.following(connection, everywhere, 100)
        await repository_relay.mark(connection, dict.fromkeys(everywhere, 1))
    finally:
        await connection.close()


async def test_no_call_reads_many_rows_of_a_table_in_vain(
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
            await use(who, third, dialog.id, group.id, message.id)
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
    """A million messages in 1000 of 100,000 dialogs, once; somebody comes into a hundred of those."""
    if not await owner.fetchval("SELECT EXISTS (SELECT FROM messages WHERE client_message_id = 'k1')"):
        for statement in _FILL:
            await owner.execute(statement, timeout=300)
    await owner.execute(_ENTER, uuid.UUID(user_id))
    await owner.execute("ANALYZE", timeout=120)


_FILL = (
    """
    INSERT INTO dialogs (id, kind, created_by, seq, message_no, member_count)
    SELECT md5('d' || n)::uuid, 2, gen_random_uuid(), 1010, 1000, 2 + n % 200
    FROM generate_series(1, 100000) n
    """,
    """
    INSERT INTO members (dialog_id, user_id, role, joined_seq, inviter)
    SELECT md5('d' || n)::uuid, md5('u' || (n + m) % 500)::uuid, 1, 1, gen_random_uuid()
    FROM generate_series(1, 1000) n, generate_series(1, 200) m
    """,
    """
    INSERT INTO messages
        (dialog_id, seq, message_no, sender_id, client_message_id, type, text, request_hash)
    SELECT md5('d' || n)::uuid, s, s, md5('u' || (n + s) % 500)::uuid, 'k' || s, 'text', 'hello ' || s, ''
    FROM generate_series(1, 1000) n, generate_series(1, 1000) s
    """,
    """
    INSERT INTO changes (dialog_id, seq, actor_id, kind, payload)
    SELECT md5('d' || n)::uuid, 1000 + s, gen_random_uuid(), 11, ''
    FROM generate_series(1, 1000) n, generate_series(1, 10) s
    """,
    "INSERT INTO relayed (dialog_id, seq) SELECT id, seq FROM dialogs ON CONFLICT DO NOTHING",
    """
    INSERT INTO devices (user_id, device_id, resume, stamp)
    SELECT md5('u' || n)::uuid, 'phone', 'token', n FROM generate_series(1, 20000) n
    """,
)
_ENTER = """
INSERT INTO members (dialog_id, user_id, role, joined_seq, inviter)
SELECT md5('d' || n)::uuid, $1, 1, 1, $1 FROM generate_series(1, 100) n
"""
