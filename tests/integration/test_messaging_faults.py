"""Sending over a network that fails: what was acknowledged is stored exactly once, numbered without gaps."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import grpc
import pytest

from sampan.messaging.v1.message_pb2 import Message
from services.mesh.app import App
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support import databases
from tests.support.chat import Recorder, Talker, Talkers, talkers
from tests.support.errors import reason_of
from tests.support.mesh import Minter, channel_as, serving
from tests.support.proxy import Cut, Proxy, proxy_before
from tests.support.waiting import until

Outcome = Message | str


@dataclass(frozen=True)
class Far:
    """Messaging with a network before its database."""

    people: Talkers
    network: Proxy
    heard: Recorder
    truth: asyncpg.Connection

    async def send(self, who: Talker, dialog_id: str, key: str, text: str = "hello") -> Outcome:
        """A message, or the reason why there is none."""
        try:
            return await who.say(dialog_id, text, client_message_id=key)
        except grpc.aio.AioRpcError as error:
            return reason_of(error)

    async def check(self, dialog_id: str, sent: dict[str, Outcome]) -> None:
        """Acknowledged is stored, once and as it was told; refused is not; and the log has no gap."""
        found = await self.truth.fetch(
            "SELECT client_message_id, seq, message_no FROM messages WHERE dialog_id = $1 ORDER BY seq",
            uuid.UUID(dialog_id),
        )
        stored = {row["client_message_id"]: row["seq"] for row in found}
        assert len(stored) == len(found)
        for key, outcome in sent.items():
            if isinstance(outcome, Message):
                assert stored[key] == outcome.seq
            elif outcome != "OUTCOME_UNKNOWN":
                assert key not in stored
        seqs = await self.truth.fetch(
            "SELECT seq FROM messages WHERE dialog_id = $1 UNION ALL "
            "SELECT seq FROM changes WHERE dialog_id = $1 ORDER BY 1",
            uuid.UUID(dialog_id),
        )
        assert [row["seq"] for row in seqs] == list(range(1, len(seqs) + 1))
        assert [row["message_no"] for row in found] == list(range(1, len(found) + 1))
        head = await self.truth.fetchrow(
            "SELECT seq, message_no FROM dialogs WHERE id = $1", uuid.UUID(dialog_id)
        )
        assert tuple(head or ()) == (len(seqs), len(found))


@pytest.fixture
async def far(
    messaging_database: databases.Clone,
    identity: tuple[App, str],
    identity_database: databases.Clone,
    pki: Pki,
) -> AsyncIterator[Far]:
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": [identity[1]]})
    heard, minter = Recorder(), Minter()
    async with proxy_before(messaging_database.runtime_url) as network:
        app = await databases.messaging_app(
            messaging_database,
            pki,
            mesh,
            minter,
            heard,
            database_url=network.url(messaging_database.runtime_url),
            database_timeout=2.0,
        )
        truth = await asyncpg.connect(messaging_database.admin_url)
        async with (
            serving(app, mesh) as address,
            channel_as("edge", address, "messaging", pki) as edge,
            talkers(edge, edge, minter, identity_database.owner_url) as people,
        ):
            yield Far(people, network, heard, truth)
            network.resume()
        await truth.close()


async def test_one_poisoned_message_among_two_hundred_fails_alone(far: Far) -> None:
    one, other = await far.people.some(2)
    dialog = await one.direct(other)
    keys = [f"k{number}" for number in range(200)]
    answers = await asyncio.gather(
        *(far.send(one, dialog.id, key, "a\0b" if key == "k77" else "a") for key in keys)
    )
    sent = dict(zip(keys, answers, strict=True))
    assert sent["k77"] == "INVALID_ARGUMENT"
    assert {a for a in answers if isinstance(a, str)} == {"INVALID_ARGUMENT"}
    assert sum(isinstance(answer, Message) for answer in answers) == 199
    await far.check(dialog.id, sent)


@pytest.mark.parametrize("answered", [True, False], ids=["after the commit", "before the commit"])
async def test_a_connection_cut_at_the_commit_neither_loses_nor_doubles(far: Far, answered: bool) -> None:
    one, other = await far.people.some(2)
    dialog = await one.direct(other)
    await one.say(dialog.id, "first")
    keys = [f"{uuid.uuid4()}" for _ in range(20)]
    far.network.cut_when = cut = Cut([keys[7].encode()], answered=answered)
    answers = await asyncio.gather(*(far.send(one, dialog.id, key) for key in keys))
    assert cut.done == 1
    assert all(isinstance(answer, Message) for answer in answers)
    await far.check(dialog.id, dict(zip(keys, answers, strict=True)))

    # What was told live is what is stored, each at least once and in order.
    async def told() -> list[int]:
        return sorted({event.seq for event in far.heard.of(dialog.id)})

    await until(told, list(range(1, 23)), within=20)


async def sent_again(far: Far, who: Talker, dialog: str, keys: list[str]) -> dict[str, Outcome]:
    """Sends until each is acknowledged."""
    done: dict[str, Outcome] = {}

    async def all_there() -> bool:
        left = [key for key in keys if not isinstance(done.get(key), Message)]
        answers = await asyncio.gather(*(far.send(who, dialog, key) for key in left))
        done.update(zip(left, answers, strict=True))
        return all(isinstance(answer, Message) for answer in done.values())

    await until(all_there, True, within=30)
    return done


async def test_backends_that_are_ended_again_and_again_lose_nothing(far: Far) -> None:
    one, other = await far.people.some(2)
    dialogs = [(await one.group(other)).id for _ in range(5)]
    stop = asyncio.Event()
    sent: dict[str, dict[str, Outcome]] = {dialog: {} for dialog in dialogs}

    async def acknowledged() -> int:
        return sum(isinstance(outcome, Message) for of in sent.values() for outcome in of.values())

    async def end_backends() -> None:
        while not stop.is_set():
            await far.truth.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND usename = 'messaging'"
            )
            before = await acknowledged()
            await asyncio.sleep(0.15)
            # However slow the machine is, something gets through in between.
            while await acknowledged() < before + 10 and not stop.is_set():
                await asyncio.sleep(0.01)

    ending = asyncio.ensure_future(end_backends())

    async def send(dialog: str, number: int) -> None:
        key = f"k{number}"
        sent[dialog][key] = await far.send(one, dialog, key)

    for round_ in range(12):
        await asyncio.gather(*(send(one_, round_ * 10 + n) for one_ in dialogs for n in range(10)))
    stop.set()
    await ending
    outcomes = Counter(
        "sent" if isinstance(outcome, Message) else outcome for of in sent.values() for outcome in of.values()
    )
    assert set(outcomes) <= {"sent", "UNAVAILABLE", "OUTCOME_UNKNOWN"}
    assert outcomes["sent"] > 100
    for dialog, of in sent.items():
        await far.check(dialog, of)

    # Sent again with the same ids until each is acknowledged, all of it is there exactly once.
    for dialog, of in sent.items():
        again = await sent_again(far, one, dialog, list(of))
        await far.check(dialog, again)
        assert len(again) == 120


async def test_callers_that_go_away_hurt_nobody(far: Far) -> None:
    one, other = await far.people.some(2)
    dialog = await one.direct(other)
    keys = [f"k{number}" for number in range(100)]
    tasks = {key: asyncio.ensure_future(far.send(one, dialog.id, key)) for key in keys}
    gone = set(random.Random(1).sample(keys, 40))
    while not any(task.done() for task in tasks.values()):
        await asyncio.sleep(0)
    for key in gone:
        tasks[key].cancel()
    answers = await asyncio.gather(*tasks.values(), return_exceptions=True)
    sent: dict[str, Outcome] = {
        key: answer
        for key, answer in zip(keys, answers, strict=True)
        if not isinstance(answer, BaseException)
    }
    assert {key for key, answer in sent.items() if isinstance(answer, Message)} >= set(keys) - gone
    await far.check(dialog.id, sent)


async def test_a_database_that_is_away_is_said_so_and_sending_goes_on_when_it_is_back(far: Far) -> None:
    one, other = await far.people.some(2)
    dialog = await one.direct(other)
    far.network.refuses = True
    far.network.cut()
    assert await far.send(one, dialog.id, "a") in {"UNAVAILABLE", "OUTCOME_UNKNOWN"}
    far.network.refuses = False
    answer = await far.send(one, dialog.id, "a")
    assert isinstance(answer, Message)
    await far.check(dialog.id, {"a": answer})
