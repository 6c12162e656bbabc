"""What clients that write do wrong: REST, gRPC and gRPC-web give one reason, and nothing is written."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from sampan.messaging.v1 import message_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from tests.support.chat import Talker
from tests.support.doors import Reply
from tests.support.live_doors import NdjsonLine, opened
from tests.support.live_lines import Edge

SERVICE = "/sampan.messaging.v1.MessagingService"


async def send(edge: Edge, token: str, dialog_id: str, **fields: Any) -> list[Reply]:
    """The same message through each door."""
    fields.setdefault("content", {"text": "hello"})
    raw = pb.SendMessageRequest(dialog_id=dialog_id, **fields).SerializeToString()
    doors = (edge.clients.grpc, edge.clients.grpc_web)
    return [
        await edge.clients.rest.call("POST", f"/v1/dialogs/{dialog_id}/messages", fields, token=token),
        *[await door.call(f"{SERVICE}/SendMessage", raw, message_pb2.Message, token=token) for door in doors],
    ]


async def acknowledge(edge: Edge, token: str, resume: str) -> list[Reply]:
    """The same position of a device through each door."""
    fields = {"device_id": "phone", "resume": resume}
    raw = pb.AckEventsRequest(**fields).SerializeToString()
    doors = (edge.clients.grpc, edge.clients.grpc_web)
    return [
        await edge.clients.rest.call("POST", "/v1/events/ack", fields, token=token),
        *[await door.call(f"{SERVICE}/AckEvents", raw, pb.AckEventsResponse, token=token) for door in doors],
    ]


@dataclass(frozen=True)
class Scene:
    """Ann talks with Bob, who talks with Cat; each dialog has one message."""

    ann: Talker
    bob: Talker
    dialog: str
    foreign: str
    theirs: str


@pytest.fixture
async def scene(edge: Edge) -> Scene:
    ann, bob, cat = [await edge.talker() for _ in range(3)]
    dialog, foreign = await ann.direct(bob), await bob.group(cat)
    await bob.say(dialog.id, "for ann")
    theirs = await bob.say(foreign.id, "not for ann")
    return Scene(ann, bob, dialog.id, foreign.id, theirs.id)


async def nothing_written(scene: Scene) -> None:
    """Both dialogs are as they were."""
    assert (await scene.bob.see(scene.dialog)).last_seq == 2
    assert (await scene.bob.see(scene.foreign)).last_seq == 2


def agree(replies: list[Reply], reason: str, http: int) -> None:
    """One reason, one sentence for people, and REST's status."""
    assert [reply.reason for reply in replies] == [reason] * 3, replies
    assert replies[0].code == http
    assert replies[1].code == replies[2].code != 0
    assert len({reply.body["detail"] for reply in replies}) == 1


async def test_a_message_into_a_dialog_that_is_not_ones_own(edge: Edge, scene: Scene) -> None:
    for dialog_id in (str(uuid.uuid4()), scene.foreign):
        agree(await send(edge, scene.ann.token, dialog_id), "DIALOG_NOT_FOUND", 404)
    await nothing_written(scene)


async def test_an_answer_to_a_message_of_another_dialog(edge: Edge, scene: Scene) -> None:
    for field in ("reply_to", "thread_id"):
        replies = await send(edge, scene.ann.token, scene.dialog, **{field: scene.theirs})
        agree(replies, "REPLY_NOT_FOUND", 404)
    await nothing_written(scene)


async def test_a_message_to_who_has_blocked_one(edge: Edge, scene: Scene) -> None:
    await scene.bob.BlockUser(pb.BlockUserRequest(user_id=scene.ann.id))
    agree(await send(edge, scene.ann.token, scene.dialog), "BLOCKED", 403)
    agree(await send(edge, scene.bob.token, scene.dialog), "BLOCKED", 403)
    await nothing_written(scene)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"content": {"text": "x" * 8193}}, "content.text"),
        ({"content": {"text": ""}}, "content.text"),
        ({"client_message_id": "not allowed"}, "client_message_id"),
        ({"client_message_id": "x" * 65}, "client_message_id"),
        ({"reply_to": "short"}, "reply_to"),
        ({"thread_id": "x" * 33}, "thread_id"),
        ({"mentions": ["nobody"]}, "mentions[0]"),
        ({"file_ids": ["no file"]}, "file_ids[0]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_field_that_breaks_its_rule(
    edge: Edge, scene: Scene, fields: Mapping[str, Any], field: str
) -> None:
    replies = await send(edge, scene.ann.token, scene.dialog, **fields)
    agree(replies, "INVALID_ARGUMENT", 400)
    assert [{error["field"] for error in reply.body["errors"]} for reply in replies] == [{field}] * 3
    await nothing_written(scene)


async def test_text_that_is_no_utf_8(edge: Edge, scene: Scene) -> None:
    body = json.dumps({"content": {"text": "@@"}}).encode().replace(b"@@", b"\xff\xfe")
    raw = pb.SendMessageRequest(dialog_id=scene.dialog, content={"text": "@@"}).SerializeToString()
    raw, path = raw.replace(b"@@", b"\xff\xfe"), f"{SERVICE}/SendMessage"
    rest, token = edge.clients.rest, scene.ann.token
    replies = [
        await rest.call("POST", f"/v1/dialogs/{scene.dialog}/messages", content=body, token=token),
        await edge.clients.grpc.call(path, raw, message_pb2.Message, token=token),
        await edge.clients.grpc_web.call(path, raw, message_pb2.Message, token=token),
    ]
    agree(replies, "MALFORMED_REQUEST", 400)
    await nothing_written(scene)


async def test_a_token_that_is_not_ones_own_is_not_kept(edge: Edge, scene: Scene) -> None:
    line, theirs = NdjsonLine(edge, scene.ann.token), NdjsonLine(edge, scene.bob.token)
    async with opened(line, theirs):
        forged = line.resume[:-4] + ("AAAA" if line.resume[-4:] != "AAAA" else "BBBB")
        for resume in (theirs.resume, forged, "nonsense"):
            agree(await acknowledge(edge, scene.ann.token, resume), "RESUME_TOKEN_INVALID", 400)
        replies = await acknowledge(edge, scene.ann.token, line.resume)
        assert [reply.reason for reply in replies] == [""] * 3
