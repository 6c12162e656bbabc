"""The rules of the hub: repeats are dropped, gaps filled from the log, slow streams read again."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.messaging.v1 import frame_pb2
from services.mesh.errors import Unavailable
from services.messaging.live import frames
from services.messaging.live.dialog import Dialog
from services.messaging.live.history import History, Span
from services.messaging.live.hub import Hub
from services.messaging.live.resume import Tokens
from services.messaging.live.roster import Roster
from services.messaging.live.stream import Session
from services.messaging.live.wire import News
from services.messaging.publishing import LiveEvent
from services.messaging.repository_live import Membership, Memberships


class Alone:
    """Where there are no other processes, no presence and nobody to ask."""

    def tell(self, events: Sequence[LiveEvent]) -> None: ...

    def tell_news(self, news: News) -> None: ...

    def came(self, user_id: uuid.UUID, device: str) -> None: ...

    def went(self, user_id: uuid.UUID, device: str) -> None: ...


class Log:
    """A log of one dialog, in memory; fails as often as told."""

    def __init__(self) -> None:
        self.id = uuid.uuid4()
        self.events: list[LiveEvent] = []
        self.reads = 0
        self.failures = 0
        self.first = 1

    def write(self, text: str = "") -> LiveEvent:
        seq = len(self.events) + 1
        made = frame_pb2.Event(dialog_id=str(self.id), seq=seq, message_created={"id": text})
        self.events.append(LiveEvent(self.id, seq, made.SerializeToString()))
        return self.events[-1]

    async def fetch(self, spans: Sequence[Span]) -> Sequence[LiveEvent]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise Unavailable
        return [
            event for _, after, until in spans for event in self.events[max(after, self.first - 1) : until]
        ]


def hub_of(log: Log, queue_bytes: int = 100_000) -> Hub:
    alone = Alone()
    return Hub(
        tokens=Tokens(b"k" * 32, days=30),
        history=History(log.fetch),
        others=alone,
        roster=Roster(time.time, alone, heartbeat=15, leeway=5),
        queue_bytes=queue_bytes,
        user_streams=20,
    )


def join(hub: Hub, log: Log, cursor: int | None = None) -> tuple[Session, Dialog]:
    """A stream of somebody new who is in the log's dialog."""
    person = hub.enter(uuid.uuid4())
    last, now = len(log.events), time.time()
    membership = Membership(log.id, 1, now, 0, 0, last, now, is_small=True)
    hub.apply(person, Memberships(now, (membership,)), {})
    dialog = hub.dialogs[log.id]
    session = Session(hub, person, "", "s", time.time() + 900)
    session.begin(0, int(now) - 600, {dialog: last if cursor is None else cursor}, [])
    hub.add(session)
    return session, dialog


async def read(session: Session, until: int) -> list[frame_pb2.Frame]:
    """Frames up to one with an event."""
    found = []
    async with asyncio.timeout(5):
        async for raw in session:
            found.append(frame_pb2.Frame.FromString(raw))
            if any(event.seq == until for event in found[-1].events):
                return found
    raise AssertionError(found)


def seqs(found: Sequence[frame_pb2.Frame]) -> list[int]:
    return [event.seq for frame in found for event in frame.events]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_in_whatever_order_events_are_heard_each_comes_once_and_in_order(data: Any) -> None:
    async def run() -> None:
        log = Log()
        hub = hub_of(log)
        session, _ = join(hub, log)
        written = [log.write() for _ in range(12)]
        heard = data.draw(st.lists(st.sampled_from(written), max_size=30))
        for event in heard:
            hub.hear([event])
        hub.expect_of(log.id, 12)
        assert seqs(await read(session, 12)) == list(range(1, 13))
        session.close()

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 3))
def test_who_is_behind_catches_up_from_anywhere(cursor: int, before: int, failures: int) -> None:
    async def run() -> None:
        log = Log()
        for _ in range(before):
            log.write()
        hub = hub_of(log)
        start = min(cursor, before)
        session, _ = join(hub, log, start)
        log.failures = failures
        hub.hear([log.write()])
        assert seqs(await read(session, before + 1)) == list(range(start + 1, before + 2))
        session.close()

    asyncio.run(run())


async def test_a_slow_stream_holds_little_and_gets_everything() -> None:
    log = Log()
    hub = hub_of(log, queue_bytes=10_000)
    session, _ = join(hub, log)
    for number in range(2000):
        hub.hear([log.write("x" * 100 + str(number))])
        assert session._size <= 11_000
    assert hub.dropped > 0
    assert seqs(await read(session, 2000)) == list(range(1, 2001))


async def test_many_who_miss_the_same_share_one_read() -> None:
    log = Log()
    for _ in range(50):
        log.write()
    hub = hub_of(log)
    sessions = [join(hub, log, 10)[0] for _ in range(100)]
    found = await asyncio.gather(*(read(session, 50) for session in sessions))
    assert all(seqs(one) == list(range(11, 51)) for one in found)
    assert log.reads == 1


async def test_one_event_has_the_same_bytes_for_all() -> None:
    log = Log()
    hub = hub_of(log)
    sessions = [join(hub, log)[0] for _ in range(3)]
    hub.hear([log.write("hello")])
    pieces = [(session._pending or [])[-1] for session in sessions]
    assert pieces[0] is pieces[1] is pieces[2]


async def test_events_that_are_gone_by_age_are_told_as_truncated() -> None:
    log = Log()
    for _ in range(20):
        log.write()
    log.first = 15
    hub = hub_of(log)
    session, _ = join(hub, log, 3)
    found = await read(session, 20)
    assert seqs(found) == list(range(15, 21))
    assert [one.first_seq for frame in found for one in frame.truncated] == [15]


async def test_a_token_never_says_more_than_was_sent() -> None:
    log = Log()
    hub = hub_of(log)
    session, dialog = join(hub, log)
    hub.hear([log.write(), log.write()])
    (frame,) = await read(session, 2)
    position = hub.tokens.read(session.person.id, frame.resume, time.time())
    assert position.cursors == {dialog.id: 2}
    hub.hear([log.write()])
    assert hub.tokens.read(session.person.id, frame.resume, time.time()).cursors == {dialog.id: 2}


async def test_who_is_removed_gets_nothing_after_that_even_when_late() -> None:
    log = Log()
    hub = hub_of(log)
    session, dialog = join(hub, log)
    witness, _ = join(hub, log)
    log.write()
    gone = frame_pb2.Event(dialog_id=str(log.id), seq=2, member_removed={"user_id": str(session.person.id)})
    log.events.append(LiveEvent(log.id, 2, gone.SerializeToString()))
    log.write("secret")
    # Last first: all of it comes out of order.
    for event in reversed(log.events):
        hub.hear([event])
    assert seqs(await read(session, 2)) == [1, 2]
    assert seqs(await read(witness, 3)) == [1, 2, 3]
    assert not session.person.dialogs
    assert session.person not in dialog.people


async def test_streams_that_end_leave_nothing_behind() -> None:
    log = Log()
    hub = hub_of(log)
    sessions = [join(hub, log)[0] for _ in range(5)]
    hub.hear([log.write()])
    for session in sessions:
        session.close()
        session.close()
    assert (hub.people, hub.dialogs, hub.active, len(hub._roster)) == ({}, {}, {}, 0)


def test_a_heartbeat_is_a_frame_of_its_own() -> None:
    assert frame_pb2.Frame.FromString(frames.heartbeat().data).HasField("heartbeat")
