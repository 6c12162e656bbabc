"""Ids of messages, keys of direct dialogs, and who may do what."""

from __future__ import annotations

import base64
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.messaging.v1.frame_pb2 import Send
from sampan.messaging.v1.message_pb2 import Content
from sampan.messaging.v1.messaging_service_pb2 import SendMessageRequest
from services.mesh.errors import InvalidArgument
from services.messaging.dialogs import wanted
from services.messaging.domain import Kind, MessageId, Paid, Role, direct_key, may_add, may_remove
from services.messaging.servicer_drafts import Drafts

SEQS = st.integers(1, 2**63 - 1)
DIALOG = str(uuid.UUID(int=5))


@given(st.uuids(), SEQS)
def test_an_id_says_where_its_message_is(dialog_id: uuid.UUID, seq: int) -> None:
    text = str(MessageId(dialog_id, seq))
    assert len(text) == 32
    assert MessageId.read(text) == MessageId(dialog_id, seq)


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/= ", max_size=40))
def test_each_id_has_one_text(text: str) -> None:
    found = MessageId.read(text)
    assert found is None or str(found) == text


@given(st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")))
def test_what_is_no_id_is_none(text: str) -> None:
    found = MessageId.read(text)
    assert found is None or str(found) == text


@pytest.mark.parametrize("seq", [0, 2**63, 2**64 - 1])
def test_a_number_that_no_message_can_have_is_no_id(seq: int) -> None:
    text = base64.urlsafe_b64encode(uuid.UUID(int=1).bytes + seq.to_bytes(8, "big")).decode()
    assert MessageId.read(text) is None


@given(st.uuids(), st.uuids())
def test_two_people_have_one_key_whoever_asks(one: uuid.UUID, other: uuid.UUID) -> None:
    assert direct_key(one, other) == direct_key(other, one)
    assert len(direct_key(one, other)) == 32


def test_admins_remove_members_and_the_owner_anybody_else() -> None:
    allowed = {(actor.name, target.name) for actor in Role for target in Role if may_remove(actor, target)}
    assert allowed == {("ADMIN", "MEMBER"), ("OWNER", "MEMBER"), ("OWNER", "ADMIN")}


def test_admins_add_members_and_only_the_owner_adds_admins() -> None:
    allowed = {(actor.name, role.name) for actor in Role for role in Role if may_add(actor, role)}
    assert allowed == {("ADMIN", "MEMBER"), ("OWNER", "MEMBER"), ("OWNER", "ADMIN")}


def test_who_is_named_twice_or_is_the_maker_counts_once() -> None:
    me, you = uuid.uuid4(), uuid.uuid4()
    assert wanted(me, [me, you, you], "", "").people == [me, you]
    assert wanted(me, [me, you], "", "").kind is Kind.DIRECT
    assert wanted(me, [you], "a title", "").kind is Kind.GROUP
    for people, kind in (([], ""), ([me], "group"), ([you, uuid.uuid4()], "direct")):
        with pytest.raises(InvalidArgument):
            wanted(me, people, "", kind)


def send(**more: object) -> SendMessageRequest:
    fields = {"dialog_id": DIALOG, "content": Content(text="a"), **more}
    return SendMessageRequest(**fields)  # type: ignore[arg-type]


def test_the_hash_of_a_draft_tells_another_message_from_a_repeat() -> None:
    drafts, me = Drafts(b"k" * 32), uuid.uuid4()
    other = str(MessageId(uuid.UUID(DIALOG), 7))
    requests = [
        send(),
        send(content=Content(text="b")),
        send(reply_to=other),
        send(thread_id=other),
        send(file_ids=[DIALOG]),
        send(mentions=[DIALOG]),
    ]
    hashes = [drafts.of(me, request).request_hash for request in requests]
    assert len(set(hashes)) == len(requests)
    again = send(client_message_id="x", request_id=DIALOG)
    assert drafts.of(me, again).request_hash == hashes[0]
    # The same over every door, and not to be guessed without the key.
    frame = Send(dialog_id=DIALOG, content=Content(text="a"))
    assert drafts.of(me, frame).request_hash == hashes[0]
    assert Drafts(b"l" * 32).of(me, send()).request_hash != hashes[0]


def test_a_draft_gets_the_id_that_its_sender_gave_or_one_of_its_own() -> None:
    drafts, me = Drafts(b"k" * 32), uuid.uuid4()
    assert drafts.of(me, send(client_message_id="x", request_id=DIALOG)).client_message_id == "x"
    assert drafts.of(me, send(request_id=DIALOG)).client_message_id == DIALOG
    made = {drafts.of(me, send()).client_message_id for _ in range(100)}
    assert len(made) == 100


def test_what_is_answered_in_another_dialog_has_no_number() -> None:
    draft = Drafts(b"k").of(uuid.uuid4(), send(reply_to=str(MessageId(uuid.uuid4(), 7))))
    assert (draft.reply_to, draft.thread) == (0, None)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1, "THB", "0.01 THB"),
        (15_000, "THB", "150.00 THB"),
        (100_005, "IDR", "1000.05 IDR"),
        (25_000, "VND", "25000 VND"),
    ],
)
def test_a_payment_says_in_words_what_it_is(amount: int, currency: str, text: str) -> None:
    paid = Paid(uuid.UUID(int=1), "send", uuid.UUID(int=2), uuid.UUID(int=3), amount, currency)
    assert paid.text == text
    assert json.loads(paid.attributes) == {
        "transaction_id": str(paid.transaction_id),
        "kind": "send",
        "amount": str(amount),
        "currency": currency,
    }


@pytest.mark.parametrize(("recipient", "amount"), [(2, 100), (3, 0), (3, -1)])
def test_a_payment_is_of_something_and_of_two_people(recipient: int, amount: int) -> None:
    with pytest.raises(ValueError, match="from one person to another"):
        Paid(uuid.UUID(int=1), "send", uuid.UUID(int=2), uuid.UUID(int=recipient), amount, "THB")
