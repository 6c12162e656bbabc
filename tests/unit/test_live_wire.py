"""What processes tell each other, and how events are put into frames."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.messaging.v1 import frame_pb2, message_pb2
from services.messaging.live import frames, wire
from services.messaging.live.dialog import Dialog
from services.messaging.live.frames import Head
from services.messaging.live.wire import Kind, News
from services.messaging.publishing import LiveEvent

ME = b"m" * wire.PROCESS
events = st.lists(
    st.builds(LiveEvent, st.uuids(), st.integers(1, 2**63 - 1), st.binary(max_size=2_000)), max_size=6
)
news = st.builds(
    News,
    st.sampled_from(Kind),
    st.uuids(),
    st.lists(st.uuids(), max_size=1000).map(tuple),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)


@given(events)
def test_events_arrive_as_they_were_told(told: list[LiveEvent]) -> None:
    messages = list(wire.pack_events(ME, told))
    assert [one for message in messages for one in wire.unpack_events(message)] == told
    assert all(message.startswith(ME) and len(message) < 1 << 20 for message in messages)


def test_many_events_go_in_messages_that_the_bus_takes() -> None:
    told = [LiveEvent(uuid.uuid4(), seq, b"x" * 40_000) for seq in range(1, 101)]
    messages = list(wire.pack_events(ME, told))
    assert [one for message in messages for one in wire.unpack_events(message)] == told
    assert all(len(message) < 1 << 20 for message in messages)


@given(news)
def test_news_arrive_as_they_were_told(told: News) -> None:
    assert [wire.unpack_news(message) for message in wire.pack_news(ME, [told])] == [told]


@given(st.binary(max_size=200))
def test_what_no_process_sends_is_malformed(raw: bytes) -> None:
    for unpack in (wire.unpack_events, wire.unpack_news):
        try:
            unpack(raw)
        except wire.Malformed:
            continue


def _event(seq: int, **change: object) -> bytes:
    return frame_pb2.Event(
        dialog_id=str(uuid.uuid4()),
        seq=seq,
        actor_id=str(uuid.uuid4()),
        at={"seconds": 1_700_000_000},
        **change,
    ).SerializeToString()


@given(st.integers(1, 2**63 - 1))
def test_the_change_of_an_event_is_known_without_reading_all_of_it(seq: int) -> None:
    someone = str(uuid.uuid4())
    assert frames.change_of(_event(seq, message_created={"id": "a"})) == 5
    assert frames.change_of(_event(seq, member_added={"user_id": someone})) == frames.MEMBER_ADDED
    removed = _event(seq, member_removed={"user_id": someone})
    assert frames.change_of(removed) == frames.MEMBER_REMOVED
    assert str(frames.member_of(removed)) == someone
    assert frames.change_of(_event(seq)) == 0


def test_the_change_of_an_event_with_fields_left_out_is_known_too() -> None:
    assert frames.change_of(frame_pb2.Event(message_created={"id": "a"}).SerializeToString()) == 5
    assert frames.change_of(frame_pb2.Event(dialog_id="short", message_deleted={}).SerializeToString()) == 7
    assert frames.change_of(b"") == 0


def test_a_frame_of_pieces_is_the_frame_that_protobuf_makes() -> None:
    dialog = Dialog(uuid.uuid4(), 0, small=True, active_at=0.0)
    data = [_event(seq, message_created=message_pb2.Message(id="m" * seq)) for seq in (1, 2, 200)]
    pieces = [
        frames.events(dialog, 1, [frames.event_field(one) for one in data]),
        frames.heads([Head(dialog.id, 3, 2, 1)]),
        frames.receipt(dialog.id, uuid.uuid4(), 7, 8),
        frames.typing(dialog.id, uuid.uuid4()),
        frames.reply("r", "BLOCKED", "no"),
        frames.truncated(dialog.id, 4),
        frames.LIVE,
        frames.end("DRAINING", "later", 70),
    ]
    found = frame_pb2.Frame.FromString(frames.binary(pieces, b"token"))
    assert found.resume == "token"
    assert [event.SerializeToString() for event in found.events] == data
    assert (found.heads[0].last_seq, found.receipts[0].unread_count) == (3, 8)
    assert (found.replies[0].reason, found.truncated[0].first_seq) == ("BLOCKED", 4)
    assert (found.live, found.end.retry_after_ms, len(found.typing)) == (True, 70, 1)
    shown = json.loads(frames.text(pieces, b"token"))
    assert shown["resume"] == "token"
    assert [event["seq"] for event in shown["events"]] == ["1", "2", "200"]
    assert shown["heads"] == [
        {"dialog_id": str(dialog.id), "last_seq": "3", "read_seq": "2", "unread_count": 1, "left": False}
    ]
    assert (shown["live"], shown["end"]["retry_after_ms"]) == (True, 70)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 300_000])
def test_lengths_are_written_as_protobuf_writes_them(length: int) -> None:
    frame = frame_pb2.Frame.FromString(frames.resume_field(b"a" * length))
    assert len(frame.resume) == length
