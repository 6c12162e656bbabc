"""Parts are killed while people talk: everybody sees 1..n, the same, and comes back by themselves."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conftest import RUN, own_stack
from tests.support import parts
from tests.support.faults import armed
from tests.support.live_doors import DOORS, opened
from tests.support.live_lines import Edge
from tests.support.stack import Stack
from tests.support.talkers import Company

PEOPLE = 20
KILLED = ("chat", "nats", "redis", "postgres", "envoy")
CHATS = ("chat-1", "chat-2")
# How often each of them is killed in the long test.
KILLS = int(os.environ.get("SAMPAN_TEST_KILLS", "30"))
# Seconds in which a message is delivered without NATS, and a stream goes on elsewhere.
WITHIN = 2.0


# Stacks of its own and many kills: it takes minutes.
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder() -> Path:
    """Where faults of the module's stacks are armed."""
    found = Path(os.environ[RUN]) / "chat-faults"
    found.mkdir(exist_ok=True)
    return found


@pytest.fixture(scope="module")
def single(folder: Path) -> Iterator[Stack]:
    """A stack whose services have fault points."""
    with own_stack("chat-single", {"SAMPAN_RATE_LIMIT_SCALE": "1000", "SAMPAN_FAULTS": str(folder)}) as found:
        yield found


@pytest.fixture(scope="module")
def pair() -> Iterator[Stack]:
    """A stack in which chat runs twice."""
    with own_stack(
        "chat-pair", {"SAMPAN_RATE_LIMIT_SCALE": "1000", "SAMPAN_PROCESS_REPLICAS": '{"chat": 2}'}
    ) as found:
        yield found


@pytest.fixture
async def pair_edge(pair: Stack) -> AsyncIterator[Edge]:
    await parts.well(pair)
    async with Edge.of(pair) as found:
        yield found


async def survive(stack: Stack, rounds: int) -> None:
    """Kills each part so many times, in any order, while people talk."""
    await parts.well(stack)
    kills = [part for part in KILLED for _ in range(rounds)]
    random.shuffle(kills)
    print(f"killed in this order: {kills}")
    async with Edge.of(stack) as edge, Company.gathered(edge, PEOPLE) as company:
        async with company.writing():
            for part in kills:
                await company.more(PEOPLE)
                killed = parts.kill(stack, part)
                await parts.another(stack, part, killed)
                await parts.well(stack, within=30)
            await company.more(PEOPLE)
        await company.agrees()


async def test_everybody_sees_the_same_after_two_kills_of_each_part(single: Stack) -> None:
    await survive(single, 2)


async def test_everybody_sees_the_same_after_many_kills_of_each_part(single: Stack) -> None:
    await survive(single, KILLS)


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
async def test_a_message_that_was_committed_and_told_to_nobody_is_seen_once(
    single: Stack, folder: Path, moment: str
) -> None:
    await parts.well(single)
    async with Edge.of(single) as edge, Company.gathered(edge, 10) as company:
        killed = parts.pid_of(single, "chat")
        with armed(folder, f"messaging.send.{moment}", "kill"):
            async with company.writing():
                await parts.another(single, "chat", killed)
                await parts.well(single, within=30)
                await company.more(20)
        await company.agrees()


@pytest.mark.parametrize("how", ["hanging", "dead"])
async def test_without_nats_sends_succeed_and_are_delivered_across_processes(
    pair: Stack, pair_edge: Edge, how: str
) -> None:
    ann, bob = await pair_edge.talker(), await pair_edge.talker()
    dialog = await ann.direct(bob)
    # Enough for both processes to have some of each person's.
    lines = [door(pair_edge, who.token) for door in DOORS for who in (ann, bob)]
    async with opened(*lines), parts.away(pair, "nats", how):
        for _ in range(10):
            sent = await ann.say(dialog.id)
            started = time.monotonic()
            for line in lines:
                await line.has(dialog.id, sent.seq)
            assert time.monotonic() - started < WITHIN
        for line in lines:
            assert line.seqs(dialog.id) == list(range(2, 12)), line.door
    await parts.well(pair, within=30)


async def test_chats_stopped_in_turn_fail_no_call_and_streams_go_on(pair: Stack, pair_edge: Edge) -> None:
    async with Company.gathered(pair_edge, PEOPLE) as company:
        ann, bob = await pair_edge.talker(), await pair_edge.talker()
        dialog = await ann.direct(bob)
        failed: list[str] = []
        stop = asyncio.Event()

        async def calls() -> None:
            path = f"/v1/dialogs/{dialog.id}/messages"
            while not stop.is_set():
                body = {"content": {"text": "hello"}}
                reply = await pair_edge.clients.rest.call("POST", path, body, token=ann.token)
                failed.extend([reply.reason] if reply.code != 201 else [])

        calling = [asyncio.create_task(calls()) for _ in range(4)]
        async with company.writing():
            for part in CHATS:
                await company.more(PEOPLE)
                stopped = parts.stop(pair, part)
                await parts.another(pair, part, stopped, within=60)
                await parts.well(pair, within=30)
            await company.more(PEOPLE)
        stop.set()
        await asyncio.gather(*calling)
        assert failed == []
        await company.agrees()
        assert max(sender.line.away for sender in company.senders) < WITHIN
