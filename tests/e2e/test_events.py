"""sampan events: what goes by, what was parked, and how it is tried again."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid

import asyncpg

from sampan.identity.v1 import events_pb2
from tests.support.clients import Clients
from tests.support.stack import ROOT, Stack
from tests.support.waiting import until


async def test_tail_shows_an_event_as_it_is_published(stack: Stack, clients: Clients) -> None:
    listening = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.stack.cli"),
        *("events", "tail", "sampan.identity.account.*", "-n", "1"),
        env=stack.environment(),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert listening.stdout is not None
    assert listening.stderr is not None
    assert b"listening" in await listening.stderr.readline()
    await clients.register()
    told = json.loads(await listening.stdout.readline())
    assert await listening.wait() == 0
    assert (told["type"], told["specversion"]) == ("sampan.identity.account.created", "1.0")
    assert told["source"] == "/sampan/identity"
    assert uuid.UUID(told["id"]).version == 7


async def test_a_parked_event_is_listed_and_tried_again(stack: Stack) -> None:
    event_id, session_id = uuid.uuid4(), uuid.uuid4()
    payload = events_pb2.SessionCreated(session_id=str(session_id), first_session=True)
    owner = await asyncpg.connect(stack.addresses.database("notification", owner=True))
    try:
        await owner.execute(
            "INSERT INTO inbox_troubled (event_id, subject, aggregate_id, aggregate_version, payload, tries, "
            "error, parked_at) "
            "VALUES ($1, 'sampan.identity.session.created', $2, 1, $3, 5, 'KeyError', now())",
            *(event_id, session_id, payload.SerializeToString()),
        )
        listed = stack.command("events", "parked")
        assert listed.returncode == 0
        (line,) = [line for line in listed.stdout.splitlines() if str(event_id) in line]
        assert line.split()[:5] == [
            *("notification", str(event_id), "sampan.identity.session.created", "5", "KeyError")
        ]
        assert "tries 1 again" in stack.command("events", "replay", "notification", str(event_id)).stdout

        async def parked() -> bool:
            return str(event_id) in stack.command("events", "parked", "notification").stdout

        await until(parked, wanted=False, within=20)
        assert await owner.fetchval("SELECT count(*) FROM inbox WHERE event_id = $1", event_id) == 1
    finally:
        await owner.close()


def test_replay_wants_one_event_or_all(stack: Stack) -> None:
    for arguments in ((), (str(uuid.uuid4()), "--all"), ("no-id",)):
        assert stack.command("events", "replay", "notification", *arguments).returncode == 2
    unknown = stack.command("events", "replay", "notification", str(uuid.uuid4()))
    assert unknown.returncode == 1
    assert "has not parked" in unknown.stderr
