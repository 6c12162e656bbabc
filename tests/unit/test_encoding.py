"""Messages that were just written, as bytes: the same as protobuf makes of them."""

from __future__ import annotations

import json
import uuid

from hypothesis import given
from hypothesis import strategies as st

from sampan.messaging.v1 import frame_pb2, message_pb2
from services.mesh import ids
from services.messaging import encoding, events
from services.messaging.domain import Draft, Paid, message_id
from services.messaging.live import frames

TEXTS = st.text(max_size=300)
IDS = st.uuids()
NUMBERS = st.integers(1, (1 << 63) - 1)
PAYMENT = {"transaction_id": str(uuid.uuid4()), "kind": "send", "amount": "1250", "currency": "THB"}
KINDS = st.sampled_from([("text", None), ("order", {"order_id": "7"}), ("payment", PAYMENT)])


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Anything that can be written."""
    kind, attributes = draw(KINDS)
    return Draft(
        dialog_id=ids.read(str(draw(IDS))),
        sender_id=draw(IDS),
        client_message_id=draw(st.text(min_size=1, max_size=200)),
        text=draw(TEXTS),
        request_hash=b"",
        type=kind,
        attributes=json.dumps(attributes) if attributes else None,
        reply_to=draw(st.none() | NUMBERS),
        file_ids=tuple(draw(st.lists(IDS, max_size=3))),
    )


def filled(
    draft: Draft, seq: int, stamp: int, thread: int | None, mentions: list[uuid.UUID]
) -> frame_pb2.Event:
    """The event as protobuf's own objects have it."""
    event = frame_pb2.Event(dialog_id=str(draft.dialog_id), seq=seq, actor_id=str(draft.sender_id))
    event.at.FromMicroseconds(stamp)
    made = event.message_created
    made.id = message_id(draft.dialog_id, seq)
    made.dialog_id, made.seq, made.sender_id = str(draft.dialog_id), seq, str(draft.sender_id)
    made.type, made.client_message_id = draft.type, draft.client_message_id
    made.content.text = draft.text
    if draft.attributes is not None:
        events.with_attributes(made.content, draft.type, json.loads(draft.attributes))
    if draft.reply_to is not None:
        made.reply_to = message_id(draft.dialog_id, draft.reply_to)
    if thread is not None:
        made.thread_id = message_id(draft.dialog_id, thread)
    made.file_ids.extend(map(str, draft.file_ids))
    made.mentions.extend(map(str, mentions))
    made.created_at.CopyFrom(event.at)
    return event


@given(drafts(), NUMBERS, st.integers(1_000_000, 1 << 52), st.none() | NUMBERS, st.lists(IDS, max_size=3))
def test_a_written_message_has_the_bytes_that_protobuf_gives_it(
    draft: Draft, seq: int, stamp: int, thread: int | None, mentions: list[uuid.UUID]
) -> None:
    found = encoding.written(draft, seq, stamp, thread, mentions)

    expected = filled(draft, seq, stamp, thread, mentions)
    assert frame_pb2.Event.FromString(found.event) == expected
    assert found.event == expected.SerializeToString(deterministic=True)
    assert found.message == expected.message_created.SerializeToString(deterministic=True)
    assert found.kept == frames.kept(expected.message_created)


@given(IDS, NUMBERS, st.sampled_from(["THB", "VND"]))
def test_what_a_payment_says_has_the_bytes_that_its_attributes_make(
    transaction: uuid.UUID, amount: int, currency: str
) -> None:
    paid = Paid(transaction, "send", uuid.UUID(int=1), uuid.UUID(int=2), amount, currency)

    expected = message_pb2.Content(text=paid.text)
    events.with_attributes(expected, "payment", json.loads(paid.attributes))
    assert encoding.payment(paid) == expected.SerializeToString(deterministic=True)


@given(st.text(min_size=1, max_size=64), st.binary(max_size=400))
def test_a_reply_has_the_bytes_that_protobuf_gives_it(ref: str, text: bytes) -> None:
    kept = message_pb2.Message(client_message_id=text.hex())

    found = frames.written(ref, kept.SerializeToString())

    expected = frame_pb2.Frame(replies=[frame_pb2.Reply(ref=ref, message=kept)])
    assert found.data == expected.SerializeToString()
