"""Both people of a payment see it in their dialog, live and later, through every door, as one message."""

from __future__ import annotations

import asyncio
import sys
import uuid

import asyncpg
from google.protobuf import json_format

from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.messaging.v1.frame_pb2 import ConnectRequest
from sampan.messaging.v1.message_pb2 import Message
from services.client.client import ChatClient
from services.client.models import Payment
from services.client.session import Session
from tests.support.chat import Talker
from tests.support.doors import Reply
from tests.support.live_doors import DOORS, Edge, Line, opened
from tests.support.money import fund
from tests.support.stack import ROOT
from tests.support.waiting import until

WITHIN = 20


async def wallet(edge: Edge, person: Talker, currency: str = "THB", amount: int = 0) -> str:
    """A new wallet with so much in it."""
    made = await edge.clients.rest.call("POST", "/v1/wallets", {"currency": currency}, token=person.token)
    assert made.code == 201, made
    if amount:
        owner = await asyncpg.connect(edge.stack.addresses.database("payment", owner=True))
        await fund(owner, made.body["id"], amount)
        await owner.close()
    return str(made.body["id"])


async def sent(edge: Edge, ann: Talker, bob: Talker, amount: int = 15_000, currency: str = "THB") -> str:
    """Ann sends money to Bob; the transaction."""
    mine = await wallet(edge, ann, currency, amount)
    await wallet(edge, bob, currency)
    body = {
        "wallet_id": mine,
        "recipient_id": bob.id,
        "amount": str(amount),
        "currency": currency,
        "description": "for the mangoes",
        "request_id": str(uuid.uuid4()),
    }
    done = [
        await edge.clients.rest.call("POST", "/v1/transactions/send", body, token=ann.token) for _ in range(3)
    ]
    assert [one.code for one in done] == [201] * 3, done
    return str(done[0].body["id"])


async def dialog_of(one: Talker) -> str:
    """The one dialog of somebody, as soon as it is there."""

    async def count() -> int:
        return int((await one.ListDialogs(pb.ListDialogsRequest())).total)

    await until(count, 1, within=WITHIN)
    return str((await one.ListDialogs(pb.ListDialogsRequest())).dialogs[0].id)


def payments(line: Line, dialog_id: str) -> list[Message]:
    """Messages of payments that came at a door."""
    return [
        event.message_created for event in line.events(dialog_id) if event.message_created.type == "payment"
    ]


async def test_a_payment_comes_live_through_every_door_and_once(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    lines = [door(edge, one.token) for one in (ann, bob) for door in DOORS]
    async with opened(*lines):
        transaction_id = await sent(edge, ann, bob)
        dialog_id = await dialog_of(bob)
        for line in lines:
            await line.has(dialog_id, 2, within=WITHIN)
        last = await bob.say(dialog_id, "thank you")
        for line in lines:
            await line.has(dialog_id, last.seq)
            assert line.seqs(dialog_id) == [1, 2, 3], line.door
            (message,) = payments(line, dialog_id)
            assert (message.sender_id, message.content.text) == (ann.id, "150.00 THB")
            payment = message.content.payment
            assert (payment.transaction_id, payment.kind) == (transaction_id, "send")
            assert (payment.amount, payment.currency) == (15_000, "THB")
            assert message == payments(lines[0], dialog_id)[0], line.door


async def test_who_was_away_gets_it_as_it_was_told_live(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    before = [door(edge, bob.token) for door in DOORS]
    async with opened(*before):
        for line in before:
            await line.becomes(lambda line=line: bool(line.resume))
    live = DOORS[0](edge, ann.token)
    async with opened(live):
        await sent(edge, ann, bob)
        await live.has(dialog.id, 2, within=WITHIN)
    back = [type(line)(edge, bob.token, resume=line.resume) for line in before]
    async with opened(*back):
        for line in back:
            await line.has(dialog.id, 2, within=WITHIN)
            assert payments(line, dialog.id) == payments(live, dialog.id), line.door


async def test_it_is_read_over_rest_with_its_amount_as_a_text(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    transaction_id = await sent(edge, ann, bob, 12_345, "SGD")
    await dialog_of(bob)

    async def ask(verb: str, path: str, body: object = None) -> Reply:
        return await edge.clients.rest.call(verb, path, body, token=bob.token)

    (dialog,) = (await ask("GET", "/v1/dialogs")).body["dialogs"]
    shown = dialog["last_message"]
    assert (shown["type"], dialog["unread_count"]) == ("payment", 1)
    assert shown["content"] == {
        "text": "123.45 SGD",
        "attributes": {},
        "payment": {
            "transaction_id": transaction_id,
            "kind": "send",
            "amount": "12345",
            "currency": "SGD",
        },
    }
    listed = (await ask("GET", f"/v1/dialogs/{dialog['id']}/messages")).body["messages"]
    assert listed == [shown]
    read = await ask("POST", f"/v1/messages/{shown['id']}/read", {})
    assert read.body["unread_count"] == 0
    changed = await ask("PATCH", f"/v1/messages/{shown['id']}", {"content": {"text": "x"}})
    assert (changed.code, changed.reason) == (403, "PERMISSION_DENIED")
    gone = await ask("DELETE", f"/v1/messages/{shown['id']}")
    assert (gone.code, gone.reason) == (403, "PERMISSION_DENIED")


async def test_nobody_but_payment_writes_one(edge: Edge) -> None:
    ann, bob = await edge.talker(), await edge.talker()
    dialog = await ann.direct(bob)
    path = f"/v1/dialogs/{dialog.id}/messages"
    forged = {"transaction_id": str(uuid.uuid4()), "kind": "send", "amount": "5", "currency": "THB"}
    for body in (
        {"type": "payment", "content": {"text": "5.00 THB"}},
        {"type": "text", "content": {"text": "5.00 THB", "payment": forged}},
        {"content": {"text": "5.00 THB", "payment": {}}},
        {"content": {"text": "5.00 THB", "attributes": {"amount": "5"}}},
    ):
        reply = await edge.clients.rest.call("POST", path, body, token=ann.token)
        assert (reply.code, reply.reason) == (400, "INVALID_ARGUMENT"), body
    content = {"text": "5.00 THB", "payment": forged}
    for door in (one for one in DOORS if one.speaks):
        line = door(edge, ann.token)
        async with opened(line):
            frame = {"ref": "1", "send": {"dialog_id": dialog.id, "content": content}}
            await line.live()
            await line.say(json_format.ParseDict(frame, ConnectRequest()))
            end = await line.ends()
            assert end is not None
            assert end.reason == "FRAME_INVALID", line.door
    assert await bob.history(dialog.id) == []


async def test_a_terminal_and_the_client_show_it_as_what_nobody_can_write(edge: Edge) -> None:
    ann, person = await edge.talker(), await edge.clients.register()
    bob = edge.as_talker(person)
    transaction_id = await sent(edge, ann, bob)
    dialog_id = await dialog_of(bob)
    target = f"127.0.0.1:{edge.stack.port}"
    session = Session(target, None, person.username, person.password)
    async with ChatClient(target, None, session) as client:
        (message,) = await client.history(dialog_id)
    assert message.payment == Payment(transaction_id, "send", 15_000, "THB")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.stack.cli", "chat"),
        *("--as", person.username, "--dialog", dialog_id),
        env={**edge.stack.environment(), "SAMPAN_CHAT_PASSWORD": person.password},
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    shown, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, shown
    (line,) = [one for one in shown.decode().splitlines() if "150.00 THB" in one]
    assert line.startswith("* [")
    assert line.endswith("paid 150.00 THB")
