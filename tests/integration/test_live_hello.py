"""How a stream of Connect begins: with a hello, with a late one, or without a word."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.databases import Clone
from tests.support.errors import reason_of
from tests.support.live import Chat, chat


@pytest.fixture(scope="module")
async def live(
    messaging_database: Clone, identity: tuple[App, str], identity_database: Clone, pki: Pki
) -> AsyncIterator[Chat]:
    """Messaging, without NATS."""
    url = identity_database.owner_url
    async with chat(messaging_database, identity, url, pki, None, replicas=1) as found:
        yield found


@pytest.fixture(scope="module")
async def patient(
    messaging_database: Clone, identity: tuple[App, str], identity_database: Clone, pki: Pki
) -> AsyncIterator[Chat]:
    """Messaging that waits for a hello as long as it may be told to."""
    url = identity_database.owner_url
    async with chat(messaging_database, identity, url, pki, None, replicas=1, hello_seconds=10) as found:
        yield found


async def test_connect_without_a_word_is_open_at_once_and_soon_live_from_its_call(live: Chat) -> None:
    ann, bob = await live.people(2)
    dialog = await ann.direct(bob)
    await ann.say(dialog.id, "before")
    talk = live.talk(bob)
    await talk.becomes(lambda: talk.frames)
    await ann.say(dialog.id, "after")
    await talk.has(dialog.id, 3)
    first, *later = talk.frames
    assert [head.last_seq for head in first.heads] == [2]
    assert (first.HasField("heartbeat"), first.live, first.resume) == (True, False, "")
    assert not any(frame.heads for frame in later)
    assert (talk.is_live, talk.seqs(dialog.id)) == (True, [3])
    back = await live.device(bob, resume=talk.resume).live()
    assert back.seqs(dialog.id) == []


async def test_a_hello_that_comes_late_counts(patient: Chat) -> None:
    ann, bob = await patient.people(2)
    dialog = await ann.direct(bob)
    device = await patient.device(bob).live()
    await device.close()
    await ann.say(dialog.id, "missed")
    talk = patient.talk(bob, resume=device.resume)
    await talk.becomes(lambda: talk.frames)
    await ann.say(dialog.id, "just now")
    # Until it is known where the client was, it is told nothing that would move it.
    assert not any(frame.events or frame.live or frame.resume != "" for frame in talk.frames)
    await talk.greet().live()
    assert talk.seqs(dialog.id) == [2, 3]


async def test_a_wrong_hello_that_comes_late_ends_the_call(patient: Chat) -> None:
    (ann,) = await patient.people(1)
    talk = patient.talk(ann, resume="nonsense")
    await talk.becomes(lambda: talk.frames)
    talk.greet()
    await talk.ends()
    assert talk.error is not None
    assert reason_of(talk.error) == "RESUME_TOKEN_INVALID"
    assert not any(frame.live or frame.resume for frame in talk.frames)
    assert uuid.UUID(ann.id) not in patient.replicas[0].hub.people


async def test_a_hello_that_comes_too_late_is_not_taken_for_done(live: Chat) -> None:
    (ann,) = await live.people(1)
    talk = await live.talk(ann, name="phone").live()
    talk.greet()
    end = await talk.ends()
    assert end is not None
    assert end.reason == "FRAME_INVALID"
