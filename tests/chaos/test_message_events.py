"""Other contexts hear of every message, in the order of its dialog, while parts of the stack die."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack

import asyncpg
import nats

from services.client.client import ChatClient
from services.client.session import Session
from tests.support import parts
from tests.support.bus import kept_in
from tests.support.stack import Stack
from tests.support.waiting import until

STREAM = "SAMPAN_MESSAGING"
# Who may read any stream, and reads none of this one.
READER = "notification"
PATIENCE = 90.0
WRITERS = 3
# Seconds between two messages of a writer, and those for which NATS answers nothing.
PACE = 0.02
AWAY = 4.0


async def ask(stack: Stack, statement: str) -> list[asyncpg.Record]:
    """Asks messaging's database."""
    connection = await asyncpg.connect(stack.addresses.database("messaging", owner=True))
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def left(stack: Stack) -> int:
    """Dialogs with events that were not published."""
    rows = await ask(
        stack,
        "SELECT count(*) FROM dialogs d LEFT JOIN relayed r ON r.dialog_id = d.id"
        " WHERE d.seq > coalesce(r.seq, 0)",
    )
    return int(rows[0][0])


async def told(stack: Stack) -> dict[str, list[int]]:
    """Numbers of events in the stream by dialog, in its order."""
    client = await nats.connect(stack.addresses.nats(READER), inbox_prefix=f"_INBOX.{READER}")
    found: dict[str, list[int]] = {}
    try:
        for one in await kept_in(client, READER, STREAM):
            headers = one.headers or {}
            found.setdefault(headers["ce-subject"], []).append(int(headers["ce-aggregateversion"]))
    finally:
        await client.close()
    return found


async def hurt(stack: Stack) -> None:
    """Kills what writes, what publishes and what keeps; for a while nobody can publish."""
    for part in ("chat", "nats", "postgres"):
        await asyncio.sleep(random.uniform(0.3, 1.0))
        pid = parts.kill(stack, part)
        await parts.another(stack, part, pid)
    await parts.well(stack, within=30)
    with parts.hanging(stack, "nats"):
        await asyncio.sleep(AWAY / 2)
        pid = parts.kill(stack, "chat")
        await parts.another(stack, "chat", pid)
        await asyncio.sleep(AWAY / 2)


async def write(client: ChatClient, dialogs: Sequence[str], done: asyncio.Event) -> int:
    """Writes into all dialogs in turn until the end; how many messages."""
    sent: list[asyncio.Task[object]] = []
    while not done.is_set():
        sent.append(asyncio.create_task(client.send(random.choice(dialogs), "hello")))
        await asyncio.sleep(PACE)
    await asyncio.gather(*sent)
    return len(sent)


async def test_no_message_is_missing_and_none_out_of_order(victim: Stack) -> None:
    target = f"127.0.0.1:{victim.port}"
    async with AsyncExitStack() as open_ones, asyncio.timeout(PATIENCE * 2):
        clients = []
        for _ in range(WRITERS):
            session = Session(target, None, "e" + secrets.token_hex(8), secrets.token_urlsafe(12))
            await session.register()
            open_ones.push_async_callback(session.close)
            clients.append(
                await open_ones.enter_async_context(ChatClient(target, None, session, patience=PATIENCE))
            )
        others = [client.user_id for client in clients[1:]]
        dialogs = [(await clients[0].create_dialog(others, title="a", kind="group")).id for _ in range(5)]
        done = asyncio.Event()
        writing = [asyncio.create_task(write(client, dialogs, done)) for client in clients]
        try:
            await hurt(victim)
        finally:
            done.set()
        count = sum(await asyncio.gather(*writing))
        await parts.well(victim, within=30)
        await until(lambda: left(victim), 0, within=60)

    heads = {str(row["id"]): row["seq"] for row in await ask(victim, "SELECT id, seq FROM dialogs")}
    assert sum(heads[dialog] - 1 for dialog in dialogs) == count
    found = await told(victim)
    for dialog in dialogs:
        # What JetStream took twice is known by its id.
        firsts = list(dict.fromkeys(found[dialog]))
        assert firsts == list(range(1, heads[dialog] + 1))
        assert len(found[dialog]) == len(firsts)
