"""The workspace rows of the contract, by the letter, over REST and the other doors; a channel is a dialog."""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from typing import Any

from sampan.workspace.v1 import workspace_service_pb2 as pb
from tests.support.clients import Clients, Person
from tests.support.doors import Reply
from tests.support.waiting import until

SERVICE = "/sampan.workspace.v1.WorkspaceService"
WORKSPACE = {"id", "name", "slug", "description", "owner_id", "created_at", "member_count", "role"}
CHANNEL = {"id", "name", "description", "workspace_id", "is_private", "created_by", "created_at"}


def given() -> dict[str, str]:
    """A workspace that no other test makes."""
    return {"name": "ทุเรียน lovers", "slug": "w-" + secrets.token_hex(8), "description": "all of it"}


async def done(
    clients: Clients, person: Person, verb: str, path: str, body: Any = None, *, code: int = 200
) -> dict[str, Any]:
    """The body of an answer with the wanted status."""
    reply = await clients.rest.call(verb, path, body, token=person.token)
    assert reply.code == code, (verb, path, reply)
    return dict(reply.body)


async def refused(
    clients: Clients, person: Person, verb: str, path: str, body: Any = None
) -> tuple[int, str]:
    """Status and reason of a refusal."""
    reply = await clients.rest.call(verb, path, body, token=person.token)
    return reply.code, reply.reason


async def with_members(clients: Clients, count: int) -> tuple[str, Person, list[Person]]:
    """The path of a workspace, its owner, and members who joined by a code."""
    owner, *members = [await clients.register() for _ in range(count + 1)]
    made = await done(clients, owner, "POST", "/v1/workspaces", given(), code=201)
    path = f"/v1/workspaces/{made['id']}"
    invite = await done(clients, owner, "POST", f"{path}/invites", {"uses": max(1, count)}, code=201)
    for member in members:
        await done(clients, member, "POST", "/v1/workspaces/join", {"code": invite["code"]})
    return path, owner, members


async def test_w1_a_workspace_is_made_read_changed_and_deleted(clients: Clients) -> None:
    person = await clients.register()
    body = given()
    reply = await clients.rest.call("POST", "/v1/workspaces", body, token=person.token)
    assert reply.code == 201
    assert set(reply.body) == WORKSPACE
    assert body.items() <= reply.body.items()
    assert (reply.body["owner_id"], reply.body["role"], reply.body["member_count"]) == (person.id, "owner", 1)
    path = reply.headers["location"]
    assert path == f"/v1/workspaces/{reply.body['id']}"
    assert await done(clients, person, "GET", path) == reply.body
    listed = await done(clients, person, "GET", "/v1/workspaces")
    assert listed == {"workspaces": [reply.body], "next_page_token": "", "has_more": False, "total": 1}
    changed = await done(clients, person, "PATCH", path, {"description": "x"})
    assert changed == {**reply.body, "description": "x"}
    again = await clients.rest.call("POST", "/v1/workspaces", body, token=person.token)
    assert (again.code, again.reason) == (409, "SLUG_TAKEN")
    await done(clients, person, "DELETE", path, code=204)
    assert await refused(clients, person, "GET", path) == (404, "WORKSPACE_NOT_FOUND")


async def test_w1_the_same_request_id_gives_the_same_status_and_body(clients: Clients) -> None:
    person = await clients.register()
    body = given() | {"request_id": str(uuid.uuid4())}
    replies = [await clients.rest.call("POST", "/v1/workspaces", body, token=person.token) for _ in range(2)]
    assert [one.code for one in replies] == [201, 201]
    assert replies[0].body == replies[1].body
    path = f"{replies[0].headers['location']}/invites"
    asked = {"uses": 2, "request_id": str(uuid.uuid4())}
    invites = [await clients.rest.call("POST", path, asked, token=person.token) for _ in range(2)]
    assert [one.code for one in invites] == [201, 201]
    assert invites[0].body == invites[1].body
    assert invites[0].headers["location"] == f"{path}/{invites[0].body['id']}"
    assert len(invites[0].body["code"]) == 27


async def test_w1_members_roles_and_leaving(clients: Clients) -> None:
    path, owner, (one, two) = await with_members(clients, 2)
    listed = await done(clients, one, "GET", f"{path}/members")
    assert [(each["user_id"], each["role"]) for each in listed["members"]] == [
        (owner.id, "owner"),
        (one.id, "member"),
        (two.id, "member"),
    ]
    assert (listed["total"], listed["has_more"]) == (3, False)
    made = await done(clients, owner, "PATCH", f"{path}/members/{one.id}", {"role": "admin"})
    assert (made["user_id"], made["role"]) == (one.id, "admin")
    denied = await refused(clients, two, "DELETE", f"{path}/members/{one.id}")
    assert denied == (403, "PERMISSION_DENIED")
    await done(clients, one, "DELETE", f"{path}/members/{two.id}", code=204)
    assert await refused(clients, two, "GET", path) == (404, "WORKSPACE_NOT_FOUND")
    assert await refused(clients, owner, "POST", f"{path}/leave", {}) == (409, "OWNER_CANNOT_LEAVE")
    await done(clients, owner, "PATCH", f"{path}/members/{one.id}", {"role": "owner"})
    await done(clients, owner, "POST", f"{path}/leave", {})
    assert (await done(clients, one, "GET", path))["member_count"] == 1


async def test_w1_invites_end(clients: Clients) -> None:
    path, owner, (one,) = await with_members(clients, 1)
    invite = await done(clients, owner, "POST", f"{path}/invites", {}, code=201)
    listed = await done(clients, owner, "GET", f"{path}/invites")
    assert [(each["id"], each["code"]) for each in listed["invites"]] == [(invite["id"], "")]
    assert await refused(clients, one, "GET", f"{path}/invites") == (403, "PERMISSION_DENIED")
    for _ in range(2):
        await done(clients, owner, "DELETE", f"{path}/invites/{invite['id']}", code=204)
    newcomer = await clients.register()
    joining = await refused(clients, newcomer, "POST", "/v1/workspaces/join", {"code": invite["code"]})
    assert joining == (404, "INVITE_NOT_FOUND")


async def test_w1_every_door_answers_alike(clients: Clients) -> None:
    person = await clients.register()
    made = await done(clients, person, "POST", "/v1/workspaces", given(), code=201)
    request = pb.GetWorkspaceRequest(workspace_id=made["id"]).SerializeToString()
    replies: list[Reply] = [
        await door.call(f"{SERVICE}/GetWorkspace", request, pb.Workspace, token=person.token)
        for door in (clients.grpc, clients.grpc_web)
    ]
    assert [dict(one.body) for one in replies] == [made, made]
    stranger = await clients.register()
    refusals = [
        await door.call(f"{SERVICE}/GetWorkspace", request, pb.Workspace, token=stranger.token)
        for door in (clients.grpc, clients.grpc_web)
    ]
    assert [one.reason for one in refusals] == ["WORKSPACE_NOT_FOUND"] * 2


async def test_w2_a_channel_is_made_read_changed_and_deleted(clients: Clients) -> None:
    path, owner, (one,) = await with_members(clients, 1)
    body = {"name": "general", "description": "all", "is_private": False}
    reply = await clients.rest.call("POST", f"{path}/channels", body, token=one.token)
    assert reply.code == 201, reply
    assert set(reply.body) == CHANNEL
    assert body.items() <= reply.body.items()
    assert reply.body["created_by"] == one.id
    channel = reply.headers["location"]
    assert channel == f"{path}/channels/{reply.body['id']}"
    assert await done(clients, owner, "GET", channel) == reply.body
    listed = await done(clients, owner, "GET", f"{path}/channels")
    assert listed == {"channels": [reply.body], "next_page_token": "", "has_more": False, "total": 1}
    taken = await refused(clients, owner, "POST", f"{path}/channels", {"name": "General"})
    assert taken == (409, "CHANNEL_NAME_TAKEN")
    changed = await done(clients, one, "PATCH", channel, {"name": "renamed"})
    assert changed == {**reply.body, "name": "renamed"}
    dialog = await done(clients, one, "GET", f"/v1/dialogs/{reply.body['id']}")
    assert (dialog["kind"], dialog["title"]) == ("channel", "renamed")
    assert f"/v1/workspaces/{dialog['workspace_id']}" == path
    await done(clients, one, "DELETE", channel, code=204)
    assert await refused(clients, one, "GET", channel) == (404, "CHANNEL_NOT_FOUND")
    gone = await refused(clients, one, "GET", f"/v1/dialogs/{reply.body['id']}")
    assert gone == (404, "DIALOG_NOT_FOUND")


async def channel_of(clients: Clients, path: str, *people: Person, **more: Any) -> tuple[str, str]:
    """The path of a channel with some people in it, made by the first, and its dialog's id."""
    maker, *others = people
    body = {"name": "c" + secrets.token_hex(6), **more}
    made = await done(clients, maker, "POST", f"{path}/channels", body, code=201)
    channel = f"{path}/channels/{made['id']}"
    for one in others:
        await done(clients, maker, "POST", f"{channel}/members", {"user_id": one.id})
    return channel, made["id"]


async def test_w2_join_and_leave(clients: Clients) -> None:
    path, owner, (one, two) = await with_members(clients, 2)
    channel, dialog = await channel_of(clients, path, owner)
    messages = f"/v1/dialogs/{dialog}/messages"
    said = {"type": "text", "content": {"text": "hello"}}
    assert await refused(clients, one, "POST", messages, said) == (404, "DIALOG_NOT_FOUND")
    assert (await done(clients, one, "POST", f"{channel}/join", {}))["id"] == dialog
    await done(clients, one, "POST", messages, said, code=201)
    await done(clients, one, "POST", f"{channel}/leave", {})
    assert await refused(clients, one, "POST", messages, said) == (404, "DIALOG_NOT_FOUND")
    private, _ = await channel_of(clients, path, owner, two, is_private=True)
    assert await refused(clients, one, "POST", f"{private}/join", {}) == (404, "CHANNEL_NOT_FOUND")
    assert (await done(clients, two, "GET", private))["is_private"]
    await done(clients, owner, "DELETE", f"{private}/members/{two.id}", code=204)
    assert await refused(clients, two, "GET", private) == (404, "CHANNEL_NOT_FOUND")


async def test_w2_who_leaves_a_workspace_is_out_of_all_its_channels(clients: Clients) -> None:
    path, owner, (one, two) = await with_members(clients, 2)
    dialogs = [(await channel_of(clients, path, owner, one, two))[1] for _ in range(2)]
    await done(clients, one, "POST", f"{path}/leave", {})
    await done(clients, owner, "DELETE", f"{path}/members/{two.id}", code=204)
    for person in (one, two):
        for dialog in dialogs:
            missing = await refused(clients, person, "GET", f"/v1/dialogs/{dialog}/messages")
            assert missing == (404, "DIALOG_NOT_FOUND")
        assert (await done(clients, person, "GET", "/v1/dialogs"))["total"] == 0


async def test_w2_deleting_a_workspace_closes_its_channels(clients: Clients) -> None:
    path, owner, (one,) = await with_members(clients, 1)
    dialogs = [(await channel_of(clients, path, owner, one))[1] for _ in range(3)]
    await done(clients, owner, "DELETE", path, code=204)

    async def left() -> list[int]:
        return [(await refused(clients, one, "GET", f"/v1/dialogs/{dialog}"))[0] for dialog in dialogs]

    await until(left, [404, 404, 404], within=20)


async def test_w2_messages_in_a_channel_are_those_of_any_dialog(clients: Clients) -> None:
    path, owner, (one, late) = await with_members(clients, 2)
    channel, dialog = await channel_of(clients, path, owner, one)
    messages = f"/v1/dialogs/{dialog}/messages"
    # M3: sent once, however often.
    body = {"type": "text", "content": {"text": "first"}, "client_message_id": "m1"}
    first = await done(clients, owner, "POST", messages, body, code=201)
    assert await done(clients, owner, "POST", messages, body, code=201) == first
    answer = {"type": "text", "content": {"text": "an answer"}, "thread_id": first["id"]}
    await done(clients, one, "POST", messages, answer, code=201)
    # M4: in order, with the thread's replies counted; who comes later sees what was before.
    await done(clients, late, "POST", f"{channel}/join", {})
    page = await done(clients, late, "GET", messages)
    texts = {each["content"]["text"]: each for each in page["messages"]}
    assert set(texts) == {"first", "an answer"}
    assert texts["first"]["reply_count"] == 1
    # M5: changed by its author, deleted also by who owns the channel, with reactions.
    changed = await done(
        clients, owner, "PATCH", f"/v1/messages/{first['id']}", {"content": {"text": "changed"}}
    )
    assert changed["content"]["text"] == "changed"
    await done(clients, one, "POST", f"/v1/messages/{first['id']}/reactions", {"emoji": "👍"})
    await done(clients, owner, "DELETE", f"/v1/messages/{texts['an answer']['id']}", code=204)
    # M6: read up to it.
    last = await done(
        clients, owner, "POST", messages, {"type": "text", "content": {"text": "last"}}, code=201
    )
    assert (await done(clients, one, "GET", f"/v1/dialogs/{dialog}"))["unread_count"] >= 1
    await done(clients, one, "POST", f"/v1/messages/{last['id']}/read", {})
    assert (await done(clients, one, "GET", f"/v1/dialogs/{dialog}"))["unread_count"] == 0
    # M2: it stands among one's dialogs.
    mine = await done(clients, one, "GET", "/v1/dialogs")
    assert [each["id"] for each in mine["dialogs"]] == [dialog]


async def test_w2_what_is_said_in_a_channel_is_heard_live(clients: Clients) -> None:
    path, owner, (one,) = await with_members(clients, 1)
    _, dialog = await channel_of(clients, path, owner, one)
    headers = {"authorization": f"Bearer {one.token}"}
    said = {"type": "text", "content": {"text": "hello"}}

    async def heard() -> str:
        async with clients.http.stream("GET", "/v1/events", headers=headers, timeout=20) as stream:
            assert stream.status_code == 200
            async for line in stream.aiter_lines():
                frame = json.loads(line)
                if frame.get("live"):
                    await done(clients, owner, "POST", f"/v1/dialogs/{dialog}/messages", said, code=201)
                for event in frame.get("events", ()):
                    if event["dialog_id"] == dialog and event.get("message_created"):
                        return str(event["message_created"]["content"]["text"])
        return ""

    assert await asyncio.wait_for(heard(), 20) == "hello"
