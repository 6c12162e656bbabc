"""What messaging tells other contexts, as values."""

from __future__ import annotations

import uuid

import pytest

from sampan.messaging.v1 import events_pb2, frame_pb2
from services.messaging import bus_events
from services.messaging.live import wire

CHANGES = {field.name for field in frame_pb2.Event.DESCRIPTOR.oneofs_by_name["change"].fields}


def test_every_change_of_a_dialog_is_told() -> None:
    assert set(bus_events.CHANGES) | {"message_created"} == CHANGES


def test_the_stream_has_all_that_is_told_and_nothing_that_is_live() -> None:
    told = {"sampan.messaging.message.created"}
    told |= {f"sampan.messaging.{subject}" for subject, _ in bus_events.CHANGES.values()}
    kept = {subject.removesuffix("*") for subject in bus_events.SUBJECTS}
    assert {subject.rpartition(".")[0] + "." for subject in told} == kept
    assert not kept & {f"{live}." for live in (wire.LIVE, wire.USER, wire.ALIVE)}


def test_an_event_has_one_id_for_ever() -> None:
    dialog = uuid.UUID("019a2f5e-7d54-7cc0-8f6d-2b7d8a51c3aa")
    assert bus_events.event_id(dialog, 1) == bus_events.event_id(dialog, 1)
    ids = {bus_events.event_id(one, seq) for one in (dialog, uuid.uuid4()) for seq in range(1, 100)}
    assert len(ids) == 198


@pytest.mark.parametrize(
    "message", list(events_pb2.DESCRIPTOR.message_types_by_name.values()), ids=lambda one: one.name
)
def test_no_event_has_room_for_text(message: object) -> None:
    names = {field.name for field in message.fields}  # type: ignore[attr-defined]
    assert not names & {"text", "content", "title", "description", "emoji", "attributes"}
