"""A payment stands in the direct dialog of its two people, once, whatever dies, comes twice or is blocked."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support import faults
from tests.support.bus import nats_server
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.payments_told import WITHIN, Sent, Telling, telling
from tests.support.waiting import until


@pytest.fixture
async def told(
    payment_database: Clone,
    messaging_database: Clone,
    identity_database: Clone,
    identity: tuple[App, str],
    pki: Pki,
    tmp_path: Path,
) -> AsyncIterator[Telling]:
    owner = await asyncpg.connect(payment_database.owner_url)
    await owner.execute("TRUNCATE outbox, outbox_head")
    await owner.close()
    async with (
        nats_server(tmp_path) as server,
        telling(server, payment_database, messaging_database, identity_database, identity[1], pki) as found,
    ):
        yield found


async def test_both_see_one_message_in_a_dialog_that_is_made_for_it(told: Telling) -> None:
    one, other = await told.people.some(2)
    sent = Sent(one, other)
    await told.tell(sent)
    await told.shows(other, sent)
    (message,) = await told.payments(one)
    assert await told.payments(other) == [message]
    assert (message.sender_id, message.type, message.content.text) == (one.id, "payment", "150.00 THB")
    payment = message.content.payment
    assert (payment.transaction_id, payment.kind) == (str(sent.transaction_id), "send")
    assert (payment.amount, payment.currency) == (15_000, "THB")
    assert not message.content.attributes
    dialog = await other.see(message.dialog_id)
    assert (dialog.kind, dialog.last_message, dialog.unread_count) == ("direct", message, 1)
    assert {member.user_id for member in dialog.members} == {one.id, other.id}
    # For who paid it is not unread; what they have not read of the other stays so.
    assert (await one.see(message.dialog_id)).unread_count == 0
    assert told.heard.of(message.dialog_id)[-1].message_created == message
    assert {who for where, who in told.heard.came if where == message.dialog_id} == {one.id, other.id}


async def test_it_comes_into_the_dialog_that_they_have_and_counts_as_any_message(told: Telling) -> None:
    one, other = await told.people.some(2)
    dialog = await one.direct(other)
    said = await other.say(dialog.id, "please")
    sent = Sent(one, other)
    await told.tell(sent)
    await told.shows(one, sent)
    (message,) = await told.payments(other)
    assert (message.dialog_id, message.seq) == (dialog.id, said.seq + 1)
    assert ((await one.see(dialog.id)).unread_count, (await other.see(dialog.id)).unread_count) == (1, 1)
    await other.AddReaction(pb.AddReactionRequest(id=message.id, emoji="🙏"))
    answer = await other.say(dialog.id, "thanks", reply_to=message.id)
    assert answer.reply_to == message.id
    assert (await other.read(message.id)).unread_count == 0


async def test_nobody_changes_it(told: Telling) -> None:
    one, other = await told.people.some(2)
    sent = Sent(one, other)
    await told.tell(sent)
    await told.shows(one, sent)
    (message,) = await told.payments(one)
    for who in (one, other):
        assert await reason(who.edit(message.id, "9000.00 THB")) == "PERMISSION_DENIED"
        delete = pb.DeleteMessageRequest(id=message.id)
        assert await reason(who.DeleteMessage(delete)) == "PERMISSION_DENIED"
    # Its id is one that no client can give, so nobody can take its place beforehand.
    taken = one.say(message.dialog_id, "x", client_message_id=message.client_message_id)
    assert await reason(taken) == "INVALID_ARGUMENT"


async def test_a_block_does_not_keep_it_back(told: Telling) -> None:
    one, other = await told.people.some(2)
    for who, whom in ((one, other), (other, one)):
        await who.BlockUser(pb.BlockUserRequest(user_id=whom.id))
    sent = Sent(one, other)
    await told.tell(sent)
    await told.shows(one, sent)
    await told.shows(other, sent)
    dialog = await told.direct(one)
    assert dialog is not None
    assert await reason(one.say(dialog.id)) == "BLOCKED"


async def test_what_the_bus_says_twice_is_written_once(told: Telling) -> None:
    one, other = await told.people.some(2)
    sent = Sent(one, other)
    await told.tell(sent)
    await told.shows(one, sent)
    for event_id in (None, uuid.uuid4(), uuid.uuid4()):
        await told.tell_again(sent, event_id=event_id)
    last = Sent(other, one)
    await told.tell(last)
    await told.settled(last)
    await told.shows(one, sent, last)


async def test_payments_both_ways_at_once_make_one_dialog(told: Telling) -> None:
    one, other = await told.people.some(2)
    sent = [Sent(one, other, amount) for amount in range(1, 6)] + [Sent(other, one, 9) for _ in range(5)]
    await asyncio.gather(*(told.tell(each) for each in sent), one.direct(other))
    await told.settled(*sent)
    await told.shows(one, *sent)
    await told.shows(other, *sent)
    dialog = await told.direct(one)
    assert dialog is not None
    assert [message.seq for message in await told.payments(other)] == list(range(2, 12))


@pytest.mark.parametrize(
    "point",
    [
        "messaging.post_notice.before_commit",
        "messaging.post_notice.after_commit",
        "messaging.send.before_commit",
        "messaging.send.after_commit",
        "consumer.after_effect",
        "consumer.after_commit",
    ],
)
async def test_a_failure_anywhere_on_the_way_leaves_one_message_of_each(
    told: Telling, tmp_path: Path, point: str
) -> None:
    one, other = await told.people.some(2)
    # Some of them are taken together.
    sent = [Sent(one, other, amount) for amount in range(1, 11)]
    with faults.here(tmp_path), faults.armed(tmp_path, point, "raise"):
        await told.tell(*sent)
        await told.settled(*sent)
    last = Sent(other, one)
    await told.tell(last)
    await told.settled(last)
    await told.shows(one, *sent, last)
    await told.shows(other, *sent, last)
    assert await told.tables.fetchval("SELECT count(*) FROM inbox_troubled WHERE parked_at IS NOT NULL") == 0


async def test_a_lost_store_of_jetstream_writes_nothing_again(told: Telling) -> None:
    one, other = await told.people.some(2)
    sent = [Sent(one, other, amount) for amount in (1, 2, 3)]
    await told.tell(*sent)
    await told.settled(*sent)
    await told.server.kill()
    told.server.lose_store()
    more = Sent(other, one, 4)
    await told.tell(more)
    await told.server.start()
    await told.shows(one, *sent, more)
    await told.settled(*sent, more)
    await told.shows(other, *sent, more)


async def test_what_was_dropped_by_age_is_not_written_again(told: Telling) -> None:
    one, other = await told.people.some(2)
    sent = Sent(one, other)
    await told.tell(sent)
    await told.shows(one, sent)
    (message,) = await told.payments(one)
    await one.say(message.dialog_id, "new")
    await told.tables.execute(
        "UPDATE messages SET created_at = created_at - interval '40 days' WHERE dialog_id = $1 AND seq = $2",
        *(uuid.UUID(message.dialog_id), message.seq),
    )
    before = uuid.UUID(int=uuid.UUID(message.dialog_id).int - 1)
    await told.tables.execute("SELECT drop_expired($1, 30, 1, 100)", before)
    assert await told.payments(one) == []
    await told.tell_again(sent, event_id=uuid.uuid4())
    last = Sent(other, one)
    await told.tell(last)
    await told.settled(last)
    await told.shows(one, last)


async def test_an_event_that_cannot_be_read_stands_in_nobody_s_way(told: Telling) -> None:
    one, other = await told.people.some(2)
    wrong, sent = Sent(one, one), Sent(one, other)
    await told.tell(wrong, sent)
    await told.shows(one, sent)

    async def parked() -> int:
        return int(
            await told.tables.fetchval(
                "SELECT count(*) FROM inbox_troubled WHERE event_id = $1 AND parked_at IS NOT NULL",
                wrong.event_id,
            )
        )

    await until(parked, 1, within=WITHIN)
