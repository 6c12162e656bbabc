"""The messaging rows M1 to M8 of the contract, by the letter, through the doors of the edge."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from sampan.messaging.v1 import messaging_service_pb2 as pb
from sampan.messaging.v1.dialog_pb2 import Dialog
from sampan.messaging.v1.message_pb2 import Content, Message
from tests.support.clients import Clients, Person
from tests.support.doors import Reply

PREFIXES = pytest.mark.parametrize("prefix", ["/v1", ""])
SERVICE = "/sampan.messaging.v1.MessagingService"
DIALOG_FIELDS = {
    "id",
    "kind",
    "title",
    "members",
    "member_count",
    "last_seq",
    "first_seq",
    "read_seq",
    "unread_count",
    "mention_count",
    "muted",
    "role",
    "created_by",
    "created_at",
    "updated_at",
}
MESSAGE_FIELDS = {"id", "dialog_id", "seq", "sender_id", "type", "content", "thread_id", "created_at"}


class Talk:
    """REST calls of one person."""

    def __init__(self, clients: Clients, person: Person) -> None:
        self.clients = clients
        self.id = person.id
        self.token = person.token

    async def __call__(self, verb: str, path: str, body: Any = None) -> Reply:
        return await self.clients.rest.call(verb, path, body, token=self.token)

    async def dialog(self, *others: Talk, prefix: str = "/v1", **more: str) -> Reply:
        body = {"participants": [one.id for one in others], **more}
        return await self("POST", f"{prefix}/dialogs", body)

    async def say(self, dialog: str, text: str = "hello", prefix: str = "/v1", **more: Any) -> Reply:
        body = {"type": "text", "content": {"text": text}, **more}
        return await self("POST", f"{prefix}/dialogs/{dialog}/messages", body)


@pytest.fixture
async def talks(clients: Clients) -> list[Talk]:
    """Three people."""
    return [Talk(clients, await clients.register()) for _ in range(3)]


@PREFIXES
async def test_m1_a_direct_dialog_is_made_once_and_then_answered(talks: list[Talk], prefix: str) -> None:
    one, other, third = talks
    made = await one.dialog(other, prefix=prefix)
    assert (made.code, made.headers["location"]) == (201, f"/v1/dialogs/{made.body['id']}")
    assert set(made.body) >= DIALOG_FIELDS
    assert (made.body["kind"], made.body["last_seq"], made.body["member_count"]) == ("direct", "1", 2)
    again = await other.dialog(one, prefix=prefix)
    assert (again.code, again.body["id"]) == (200, made.body["id"])
    at_once = await asyncio.gather(*(one.dialog(third, prefix=prefix) for _ in range(20)))
    assert sorted(reply.code for reply in at_once) == [200] * 19 + [201]
    assert len({reply.body["id"] for reply in at_once}) == 1
    group = await one.dialog(other, third, prefix=prefix, title="three")
    assert (group.code, group.body["kind"], group.body["role"]) == (201, "group", "owner")
    stranger = await one("POST", f"{prefix}/dialogs", {"participants": [str(uuid.uuid4())]})
    assert (stranger.code, stranger.reason) == (404, "USER_NOT_FOUND")
    nobody = await one("POST", f"{prefix}/dialogs", {})
    assert (nobody.code, nobody.reason) == (400, "INVALID_ARGUMENT")
    assert nobody.body["errors"][0]["field"] == "participants"


async def test_m1_the_same_request_id_is_answered_alike(talks: list[Talk]) -> None:
    one, other, _ = talks
    request_id = str(uuid.uuid4())
    first = await one.dialog(other, request_id=request_id)
    again = await one.dialog(other, request_id=request_id)
    assert (first.code, again.code, first.raw) == (201, 201, again.raw)
    assert first.headers["location"] == again.headers["location"]


@PREFIXES
async def test_m2_dialogs_are_listed_latest_first(talks: list[Talk], prefix: str) -> None:
    one, other, third = talks
    first, second = await one.dialog(other), await one.dialog(third)
    said = await other.say(first.body["id"], mentions=[one.id])
    listed = await one("GET", f"{prefix}/dialogs?limit=1")
    assert (listed.code, set(listed.body)) == (200, {"dialogs", "total", "has_more", "next_page_token"})
    assert (listed.body["total"], listed.body["has_more"]) == (2, True)
    shown = listed.body["dialogs"][0]
    assert (shown["id"], shown["last_message"]["id"]) == (first.body["id"], said.body["id"])
    assert (shown["unread_count"], shown["mention_count"], shown["muted"]) == (1, 1, False)
    rest = await one("GET", f"{prefix}/dialogs?limit=1&page_token={listed.body['next_page_token']}")
    assert [dialog["id"] for dialog in rest.body["dialogs"]] == [second.body["id"]]
    assert rest.body["has_more"] is False
    one_of = await one("GET", f"{prefix}/dialogs/{second.body['id']}")
    assert (one_of.code, one_of.body) == (200, rest.body["dialogs"][0])
    over = await one("GET", f"{prefix}/dialogs?limit=101")
    assert (over.code, over.reason) == (400, "INVALID_ARGUMENT")


@PREFIXES
async def test_m3_a_message_is_written_once(talks: list[Talk], prefix: str) -> None:
    one, other, third = talks
    dialog = (await one.dialog(other)).body["id"]
    made = await one.say(dialog, "ก็ 🎉", prefix, client_message_id="m1", mentions=[other.id, third.id])
    assert (made.code, made.headers["location"]) == (201, f"/v1/messages/{made.body['id']}")
    assert set(made.body) >= MESSAGE_FIELDS
    assert (made.body["seq"], made.body["sender_id"], made.body["type"]) == ("2", one.id, "text")
    assert (made.body["content"]["text"], made.body["mentions"]) == ("ก็ 🎉", [other.id])
    again = await one.say(dialog, "ก็ 🎉", prefix, client_message_id="m1", mentions=[other.id, third.id])
    assert (again.code, again.body) == (201, made.body)
    reused = await one.say(dialog, "x", prefix, client_message_id="m1")
    assert (reused.code, reused.reason) == (409, "CLIENT_MESSAGE_ID_REUSED")
    reply = await other.say(dialog, "re", prefix, reply_to=made.body["id"], thread_id=made.body["id"])
    assert reply.body["thread_id"] == made.body["id"]
    camel = await one(
        "POST",
        f"{prefix}/dialogs/{dialog}/messages",
        {"content": {"text": "x"}, "clientMessageId": "m2", "replyTo": made.body["id"]},
    )
    assert (camel.body["client_message_id"], camel.body["reply_to"]) == ("m2", made.body["id"])
    for wrong in ("", "x" * 8193, " "):
        refused = await one.say(dialog, wrong, prefix)
        assert (refused.code, refused.body["errors"][0]["field"]) == (400, "content.text")
    foreign = await third.say(dialog, "x", prefix)
    assert (foreign.code, foreign.reason) == (404, "DIALOG_NOT_FOUND")


@PREFIXES
async def test_m4_messages_are_listed_by_number(talks: list[Talk], prefix: str) -> None:
    one, other, _ = talks
    dialog = (await one.dialog(other)).body["id"]
    said = [(await one.say(dialog, f"{n}")).body for n in range(5)]
    inside = (await other.say(dialog, "in a thread", thread_id=said[0]["id"])).body

    async def page(query: str) -> Reply:
        return await other("GET", f"{prefix}/dialogs/{dialog}/messages?{query}")

    newest = await page("limit=2")
    assert (newest.code, newest.body["has_more"]) == (200, True)
    assert [message["id"] for message in newest.body["messages"]] == [said[4]["id"], inside["id"]]
    before = await page(f"before_seq={said[2]['seq']}&limit=10")
    assert [message["seq"] for message in before.body["messages"]] == ["2", "3"]
    after = await page(f"after_seq={said[3]['seq']}")
    assert [message["seq"] for message in after.body["messages"]] == ["6", "7"]
    thread = await page(f"thread_id={said[0]['id']}")
    assert [message["id"] for message in thread.body["messages"]] == [inside["id"]]
    assert before.body["messages"][0]["reply_count"] == 1


async def test_m5_messages_are_changed_deleted_and_reacted_to(talks: list[Talk]) -> None:
    one, other, _ = talks
    dialog = (await one.dialog(other)).body["id"]
    path = f"/v1/messages/{(await one.say(dialog, 'first')).body['id']}"
    changed = await one("PATCH", path, {"content": {"text": "second"}})
    assert (changed.code, changed.body["content"]["text"]) == (200, "second")
    assert changed.body["edited_at"]
    assert (await other("PATCH", path, {"content": {"text": "x"}})).code == 403
    edits = await other("GET", f"{path}/edits")
    assert [edit["text"] for edit in edits.body["edits"]] == ["first"]
    liked = await other("POST", f"{path}/reactions", {"emoji": "👍"})
    assert (liked.code, liked.body["reactions"]) == (200, [{"emoji": "👍", "count": 1, "mine": True}])
    gone = await other("DELETE", f"{path}/reactions/%F0%9F%91%8D")
    assert (gone.code, gone.raw) == (204, b"")
    assert (await one("GET", path)).body["reactions"] == []
    assert (await other("DELETE", path)).code == 403
    for _ in range(2):
        deleted = await one("DELETE", path)
        assert (deleted.code, deleted.raw) == (204, b"")
    shown = await other("GET", path)
    assert (shown.body["content"]["text"], bool(shown.body["deleted_at"])) == ("", True)
    late = await one("PATCH", path, {"content": {"text": "x"}})
    assert (late.code, late.reason) == (409, "MESSAGE_DELETED")


@PREFIXES
async def test_m6_reading_up_to_a_message(talks: list[Talk], prefix: str) -> None:
    one, other, third = talks
    dialog = (await one.dialog(other)).body["id"]
    said = [(await one.say(dialog)).body for _ in range(3)]
    done = await other("POST", f"{prefix}/messages/{said[1]['id']}/read", {})
    assert (done.code, done.body) == (200, {"dialog_id": dialog, "read_seq": "3", "unread_count": 1})
    shown = (await one("GET", f"/v1/dialogs/{dialog}")).body
    assert {member["user_id"]: member["read_seq"] for member in shown["members"]}[other.id] == "3"
    foreign = await third("POST", f"{prefix}/messages/{said[1]['id']}/read", {})
    assert (foreign.code, foreign.reason) == (404, "MESSAGE_NOT_FOUND")


async def test_m7_members_roles_mute_and_leaving(talks: list[Talk], clients: Clients) -> None:
    one, other, third = talks
    group = (await one.dialog(other, title="g")).body["id"]
    path = f"/v1/dialogs/{group}"
    added = await one("POST", f"{path}/members", {"user_id": third.id})
    assert (added.code, added.body["role"]) == (201, "member")
    assert added.headers["location"] == f"{path}/members/{third.id}"
    promoted = await one("PATCH", f"{path}/members/{other.id}", {"role": "admin"})
    assert (promoted.code, promoted.body["role"]) == (200, "admin")
    listed = await third("GET", f"{path}/members")
    assert [member["role"] for member in listed.body["members"]] == ["owner", "admin", "member"]
    assert listed.body["total"] == 3
    renamed = await other("PATCH", path, {"title": "renamed"})
    assert (renamed.code, renamed.body["title"]) == (200, "renamed")
    muted = await third("POST", f"{path}/mute", {"muted": True})
    assert (muted.code, muted.body["muted"]) == (200, True)
    refused = await third("DELETE", f"{path}/members/{other.id}")
    assert (refused.code, refused.reason) == (403, "PERMISSION_DENIED")
    removed = await other("DELETE", f"{path}/members/{third.id}")
    assert (removed.code, removed.raw) == (204, b"")
    assert (await third("GET", path)).code == 404
    left = await one("POST", f"{path}/leave", {})
    assert (left.code, left.body) == (200, {})
    assert (await other("GET", path)).body["role"] == "owner"
    direct = (await one.dialog(other)).body["id"]
    kind = await one("POST", f"/v1/dialogs/{direct}/leave", {})
    assert (kind.code, kind.reason) == (409, "DIALOG_KIND")


async def test_m8_blocks_and_reports(talks: list[Talk]) -> None:
    one, other, _ = talks
    dialog = (await one.dialog(other)).body["id"]
    message = (await other.say(dialog, "buy now")).body["id"]
    made = await one("POST", "/v1/blocks", {"user_id": other.id})
    assert (made.code, made.body["user_id"]) == (201, other.id)
    assert made.headers["location"] == f"/v1/blocks/{other.id}"
    refused = await other.say(dialog)
    assert (refused.code, refused.reason) == (403, "BLOCKED")
    listed = await one("GET", "/v1/blocks")
    assert [block["user_id"] for block in listed.body["blocks"]] == [other.id]
    freed = await one("DELETE", f"/v1/blocks/{other.id}")
    assert (freed.code, freed.raw) == (204, b"")
    assert (await other.say(dialog)).code == 201
    report = await one("POST", f"/v1/messages/{message}/report", {"category": "spam"})
    assert (report.code, set(report.body)) == (200, {"id"})
    assert (await one("GET", "/v1/reports")).code == 403


async def test_every_door_does_the_same(talks: list[Talk], clients: Clients) -> None:
    one, other, third = talks
    dialog = (await one.dialog(other)).body["id"]
    seqs = []
    for door in (clients.grpc, clients.grpc_web):
        send = pb.SendMessageRequest(
            dialog_id=dialog, content=Content(text="hi"), client_message_id=door.name
        )
        for _ in range(2):
            sent = await door.call(
                f"{SERVICE}/SendMessage", send.SerializeToString(), Message, token=one.token
            )
        again = await one.say(dialog, "hi", client_message_id=door.name)
        assert (again.code, again.body["id"]) == (201, sent.body["id"])
        seqs.append(sent.body["seq"])
        read = pb.GetDialogRequest(dialog_id=dialog).SerializeToString()
        shown = await door.call(f"{SERVICE}/GetDialog", read, Dialog, token=other.token)
        assert (shown.body["unread_count"], shown.body["last_seq"]) == (len(seqs), seqs[-1])
        hidden = await door.call(f"{SERVICE}/GetDialog", read, Dialog, token=third.token)
        assert hidden.reason == "DIALOG_NOT_FOUND"
        anonymous = await door.call(f"{SERVICE}/GetDialog", read, Dialog)
        assert anonymous.reason == "TOKEN_MISSING"
    assert seqs == ["2", "3"]
    assert (await clients.rest.call("GET", f"/v1/dialogs/{dialog}")).reason == "TOKEN_MISSING"
    # Other services' methods are not for the edge.
    internal = "/sampan.messaging.v1.MessagingInternalService/PostNotice"
    assert (await clients.grpc.call(internal, b"", Message, token=one.token)).reason == "ROUTE_NOT_FOUND"
