"""The profile rows of the contract, by the letter, over REST; and the same through every door."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import Message

from sampan.profile.v1 import profile_pb2, profile_service_pb2
from tests.support.clients import Clients, Person
from tests.support.doors import Reply
from tests.support.stack import Stack
from tests.support.waiting import until

SERVICE = "/sampan.profile.v1.ProfileService"
PUBLIC = {"id", "user_id", "display_name", "bio", "avatar_url", "created_at"}
BANK = {"bank_account_name", "bank_account_holder", "bank_account_number"}
ALL = PUBLIC | BANK | {"updated_at"}
GIVEN = {
    "display_name": "Somchai ใจดี",
    "bio": "sells durian\nin Chanthaburi",
    "avatar_url": "https://example.com/somchai.png",
    "bank_account_name": "Bangkok Bank",
    "bank_account_holder": "SOMCHAI JAIDEE",
    "bank_account_number": "123-4-56789-0",
}
PREFIXES = pytest.mark.parametrize("prefix", ["/v1", ""])


async def made(clients: Clients, person: Person) -> dict[str, Any]:
    """The person's profile, just made."""
    reply = await clients.rest.call("POST", "/v1/profile", GIVEN, token=person.token)
    assert reply.code == 201, reply
    return dict(reply.body)


async def admin_of(clients: Clients, stack: Stack) -> Person:
    """Somebody whom the operator made an administrator."""
    person = await clients.register()
    done = await asyncio.to_thread(stack.command, "admin", "grant", person.username)
    assert done.returncode == 0, done.stderr
    body = {"username": person.username, "password": person.password}
    reply = await clients.rest.call("POST", "/v1/auth/login", body)
    return replace(person, token=reply.body["access_token"])


@PREFIXES
async def test_create_answers_201_with_location_and_a_second_one_409(clients: Clients, prefix: str) -> None:
    person = await clients.register()
    path = f"{prefix}/profile"
    reply = await clients.rest.call("POST", path, GIVEN, token=person.token)
    assert reply.code == 201
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.headers["location"] == f"/v1/profile/{reply.body['id']}"
    assert set(reply.body) == ALL
    assert GIVEN.items() <= reply.body.items()
    assert reply.body["user_id"] == person.id
    found = await clients.rest.call("GET", reply.headers["location"], token=person.token)
    assert (found.code, found.body) == (200, reply.body)
    again = await clients.rest.call("POST", path, GIVEN, token=person.token)
    assert (again.code, again.reason) == (409, "PROFILE_EXISTS")
    assert again.headers["content-type"] == "application/problem+json"


async def test_the_same_request_id_gives_the_same_status_and_body(clients: Clients) -> None:
    person = await clients.register()
    body = GIVEN | {"requestId": str(uuid.uuid4())}
    replies = [await clients.rest.call("POST", "/v1/profile", body, token=person.token) for _ in range(2)]
    assert [reply.code for reply in replies] == [201, 201]
    assert replies[0].body == replies[1].body
    assert replies[0].headers["location"] == replies[1].headers["location"]


async def test_only_the_name_is_needed_and_both_cases_are_taken(clients: Clients) -> None:
    person = await clients.register()
    body = {"displayName": " A ", "colour": "blue", "bankAccountNumber": "ABCD"}
    reply = await clients.rest.call("POST", "/v1/profile", body, token=person.token)
    assert reply.code == 201
    assert set(reply.body) == ALL
    assert (reply.body["display_name"], reply.body["bio"], reply.body["avatar_url"]) == ("A", "", "")
    assert (reply.body["bank_account_number"], reply.body["bank_account_name"]) == ("ABCD", "")


@PREFIXES
async def test_own_profile(clients: Clients, prefix: str) -> None:
    person = await clients.register()
    none = await clients.rest.call("GET", f"{prefix}/profile", token=person.token)
    assert (none.code, none.reason) == (404, "NOT_FOUND")
    profile = await made(clients, person)
    reply = await clients.rest.call("GET", f"{prefix}/profile", token=person.token)
    assert (reply.code, reply.body) == (200, profile)


@PREFIXES
async def test_others_see_the_public_part_and_the_owner_all_of_it(clients: Clients, prefix: str) -> None:
    person, other = await clients.register(), await clients.register()
    profile = await made(clients, person)
    for path in (f"{prefix}/profile/{profile['id']}", f"{prefix}/profile/user/{person.id}"):
        own = await clients.rest.call("GET", path, token=person.token)
        assert (own.code, own.body) == (200, profile)
        shown = await clients.rest.call("GET", path, token=other.token)
        assert shown.code == 200
        assert shown.body == {field: profile[field] for field in PUBLIC}
        assert b"bank" not in shown.raw
        anonymous = await clients.rest.call("GET", path)
        assert (anonymous.code, anonymous.reason) == (401, "TOKEN_MISSING")


@PREFIXES
async def test_what_is_not_there_is_404_and_what_is_no_id_400(clients: Clients, prefix: str) -> None:
    person = await clients.register()
    for verb, path in (
        ("GET", "/profile/{}"),
        ("GET", "/profile/user/{}"),
        ("PATCH", "/profile/{}"),
        ("DELETE", "/profile/{}"),
    ):
        body = {} if verb == "PATCH" else None
        missing = await clients.rest.call(verb, prefix + path.format(uuid.uuid4()), body, token=person.token)
        assert (missing.code, missing.reason) == (404, "NOT_FOUND"), (verb, path)
        wrong = await clients.rest.call(verb, prefix + path.format("nothing"), body, token=person.token)
        assert (wrong.code, wrong.reason) == (400, "INVALID_ARGUMENT"), (verb, path)
        assert {error["field"] for error in wrong.body["errors"]} <= {"id", "user_id"}


@PREFIXES
async def test_patch_changes_what_is_there_and_clears_what_is_empty(clients: Clients, prefix: str) -> None:
    person = await clients.register()
    profile = await made(clients, person)
    path = f"{prefix}/profile/{profile['id']}"
    empty = await clients.rest.call("PATCH", path, {}, token=person.token)
    assert (empty.code, empty.body) == (200, profile)
    changes = {
        "bio": "",
        "avatarUrl": "",
        "bank_account_name": "",
        "bank_account_number": "TH99-0000",
        "display_name": "Somsak",
    }
    reply = await clients.rest.call("PATCH", path, changes, token=person.token)
    assert reply.code == 200
    expected = profile | {
        "bio": "",
        "avatar_url": "",
        "bank_account_name": "",
        "bank_account_number": "TH99-0000",
        "display_name": "Somsak",
        "updated_at": reply.body["updated_at"],
    }
    assert reply.body == expected
    assert reply.body["updated_at"] > profile["updated_at"]
    found = await clients.rest.call("GET", path, token=person.token)
    assert found.body == expected


async def test_a_profile_sent_back_as_it_came_stays_as_it_is(clients: Clients) -> None:
    person = await clients.register()
    profile = await made(clients, person)
    reply = await clients.rest.call("PATCH", f"/v1/profile/{profile['id']}", profile, token=person.token)
    assert reply.code == 200
    assert reply.body | {"updated_at": ""} == profile | {"updated_at": ""}


@PREFIXES
async def test_somebody_else_may_neither_change_nor_delete(clients: Clients, prefix: str) -> None:
    person, other = await clients.register(), await clients.register()
    profile, _ = await made(clients, person), await made(clients, other)
    path = f"{prefix}/profile/{profile['id']}"
    for verb, body in (("PATCH", {"bio": "mine now"}), ("PATCH", {}), ("DELETE", None)):
        reply = await clients.rest.call(verb, path, body, token=other.token)
        assert (reply.code, reply.reason) == (403, "PERMISSION_DENIED")
    found = await clients.rest.call("GET", path, token=person.token)
    assert found.body == profile


@PREFIXES
async def test_path_and_body_may_not_name_different_profiles(clients: Clients, prefix: str) -> None:
    person, other = await clients.register(), await clients.register()
    profile, theirs = await made(clients, person), await made(clients, other)
    for path_id, body_id in ((profile["id"], theirs["id"]), (theirs["id"], profile["id"])):
        body = {"id": body_id, "bio": "which one"}
        reply = await clients.rest.call("PATCH", f"{prefix}/profile/{path_id}", body, token=person.token)
        assert (reply.code, reply.reason) == (400, "MALFORMED_REQUEST")
    for owner, before in ((person, profile), (other, theirs)):
        found = await clients.rest.call("GET", f"{prefix}/profile", token=owner.token)
        assert found.body == before


@PREFIXES
async def test_delete_answers_204_and_it_is_gone(clients: Clients, prefix: str) -> None:
    person = await clients.register()
    profile = await made(clients, person)
    path = f"{prefix}/profile/{profile['id']}"
    reply = await clients.rest.call("DELETE", path, token=person.token)
    assert (reply.code, reply.raw) == (204, b"")
    for again in ("GET", "DELETE"):
        gone = await clients.rest.call(again, path, token=person.token)
        assert (gone.code, gone.reason) == (404, "NOT_FOUND")
    anew = await made(clients, person)
    assert anew["id"] != profile["id"]


async def test_an_administrator_lists_changes_and_deletes_but_sees_no_bank_details(
    clients: Clients, stack: Stack
) -> None:
    person, admin = await clients.register(), await admin_of(clients, stack)
    profile = await made(clients, person)
    refused = await clients.rest.call("GET", "/v1/profiles", token=person.token)
    assert (refused.code, refused.reason) == (403, "PERMISSION_DENIED")
    page = await clients.rest.call("GET", "/v1/profiles?limit=1", token=admin.token)
    assert page.code == 200
    assert set(page.body) == {"profiles", "next_page_token", "has_more", "total"}
    assert isinstance(page.body["total"], int)
    assert [set(one) for one in page.body["profiles"]] == [PUBLIC]
    path = f"/v1/profile/{profile['id']}"
    change = {"bio": "moderated", "bank_account_number": "0000"}
    for reply in (
        await clients.rest.call("PATCH", path, change, token=admin.token),
        await clients.rest.call("GET", path, token=admin.token),
    ):
        assert reply.code == 200
        assert set(reply.body) == PUBLIC
        assert reply.body["bio"] == "moderated"
    own = await clients.rest.call("GET", path, token=person.token)
    assert own.body["bank_account_number"] == "0000"
    assert (await clients.rest.call("DELETE", path, token=admin.token)).code == 204
    assert (await clients.rest.call("GET", path, token=person.token)).code == 404


async def test_pages_follow_each_other(clients: Clients, stack: Stack) -> None:
    for _ in range(3):
        await made(clients, await clients.register())
    admin = await admin_of(clients, stack)
    seen: list[str] = []
    token = ""
    for _ in range(3):
        page = await clients.rest.call("GET", f"/v1/profiles?limit=1&page_token={token}", token=admin.token)
        seen += [one["id"] for one in page.body["profiles"]]
        token = page.body["next_page_token"]
    assert len(set(seen)) == 3
    assert seen == sorted(seen, reverse=True)
    camel = await clients.rest.call("GET", f"/v1/profiles?limit=1&pageToken={token}", token=admin.token)
    assert camel.code == 200
    for query, field in (("limit=101", "limit"), ("page_token=nothing", "page_token")):
        reply = await clients.rest.call("GET", f"/v1/profiles?{query}", token=admin.token)
        assert (reply.code, reply.reason) == (400, "INVALID_ARGUMENT")
        assert [error["field"] for error in reply.body["errors"]] == [field]
    unknown = await clients.rest.call("GET", "/v1/profiles?colour=blue", token=admin.token)
    assert unknown.reason == "UNKNOWN_QUERY_PARAMETER"


def agree(replies: list[Reply], reason: str, http: int, code: int) -> None:
    """All doors gave one reason; REST has its status, the others their code."""
    assert [reply.reason for reply in replies] == [reason] * 3, replies
    assert [reply.code for reply in replies] == [http, code, code]
    assert len({reply.body["detail"] for reply in replies}) == 1
    assert len({str(reply.body["errors"]) for reply in replies}) == 1


async def through_each_door(
    clients: Clients, verb: str, path: str, method: str, request: Message, body: Any, token: str
) -> list[Reply]:
    """The same request through REST, gRPC and gRPC-web."""
    raw = request.SerializeToString()
    return [
        await clients.rest.call(verb, path, body, token=token),
        await clients.grpc.call(f"{SERVICE}/{method}", raw, profile_pb2.Profile, token=token),
        await clients.grpc_web.call(f"{SERVICE}/{method}", raw, profile_pb2.Profile, token=token),
    ]


WRONG = [
    ("display_name", ""),
    ("display_name", "   "),
    ("display_name", "two\nlines"),
    ("display_name", "x" * 65),
    ("bio", "x" * 501),
    ("avatar_url", "somewhere"),
    ("avatar_url", "ftp://example.com/a.png"),
    ("avatar_url", "javascript:alert(1)"),
    ("avatar_url", "https://example.com/" + "x" * 2029),
    ("bank_account_name", "x" * 65),
    ("bank_account_name", "a\tb"),
    ("bank_account_holder", "x" * 65),
    ("bank_account_number", "123"),
    ("bank_account_number", "1" * 35),
    ("bank_account_number", "1234 5678"),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
async def test_a_field_that_breaks_its_rule_is_refused_alike(
    clients: Clients, field: str, value: str
) -> None:
    person = await clients.register()
    fields = {"display_name": "A", field: value}
    create = profile_service_pb2.CreateProfileRequest(**fields)
    replies = await through_each_door(
        clients, "POST", "/v1/profile", "CreateProfile", create, fields, person.token
    )
    agree(replies, "INVALID_ARGUMENT", 400, 3)
    assert {error["field"] for error in replies[0].body["errors"]} == {field}
    patch_id = str(uuid.uuid4())
    update = profile_service_pb2.UpdateProfileRequest(id=patch_id, **{field: value})
    replies = await through_each_door(
        clients, "PATCH", f"/v1/profile/{patch_id}", "UpdateProfile", update, {field: value}, person.token
    )
    agree(replies, "INVALID_ARGUMENT", 400, 3)
    assert {error["field"] for error in replies[0].body["errors"]} == {field}


@pytest.mark.parametrize(
    "fields",
    [
        {"display_name": "x"},
        {"display_name": "ก" * 64, "bio": "ก" * 500},
        {"display_name": "A", "avatar_url": "HTTP://example.com/" + "x" * 2029},
        {"display_name": "A", "bank_account_name": "ก" * 64, "bank_account_holder": "ก" * 64},
        {"display_name": "A", "bank_account_number": "1" * 34},
        {"display_name": "A", "bank_account_number": "a-1Z"},
    ],
)
async def test_a_field_at_its_limit_is_taken(clients: Clients, fields: dict[str, str]) -> None:
    person = await clients.register()
    reply = await clients.rest.call("POST", "/v1/profile", fields, token=person.token)
    assert reply.code == 201, reply
    assert fields.items() <= reply.body.items()


async def test_each_door_refuses_with_the_same_reason(clients: Clients) -> None:
    person, other = await clients.register(), await clients.register()
    profile, _ = await made(clients, person), await made(clients, other)
    missing = str(uuid.uuid4())
    create = profile_service_pb2.CreateProfileRequest(**GIVEN)
    replies = await through_each_door(
        clients, "POST", "/v1/profile", "CreateProfile", create, GIVEN, person.token
    )
    agree(replies, "PROFILE_EXISTS", 409, 6)
    for profile_id, reason, http, code in (
        (profile["id"], "PERMISSION_DENIED", 403, 7),
        (missing, "NOT_FOUND", 404, 5),
    ):
        path = f"/v1/profile/{profile_id}"
        update = profile_service_pb2.UpdateProfileRequest(id=profile_id, bio="x")
        patched = await through_each_door(
            clients, "PATCH", path, "UpdateProfile", update, {"bio": "x"}, other.token
        )
        agree(patched, reason, http, code)
        delete = profile_service_pb2.DeleteProfileRequest(id=profile_id)
        deleted = await through_each_door(clients, "DELETE", path, "DeleteProfile", delete, None, other.token)
        agree(deleted, reason, http, code)


async def test_each_door_shows_the_same_profile(clients: Clients) -> None:
    person, other = await clients.register(), await clients.register()
    profile = await made(clients, person)
    request = profile_service_pb2.GetProfileRequest(id=profile["id"])
    for token, fields in ((person.token, ALL), (other.token, PUBLIC)):
        replies = await through_each_door(
            clients, "GET", f"/v1/profile/{profile['id']}", "GetProfile", request, None, token
        )
        assert [reply.reason for reply in replies] == [""] * 3
        assert [set(reply.body) for reply in replies] == [fields] * 3
        assert len({reply.body["bio"] for reply in replies}) == 1


async def test_a_session_that_ended_is_refused_here_within_a_second(clients: Clients) -> None:
    person = await clients.register()
    await made(clients, person)
    assert (await clients.rest.call("POST", "/v1/auth/logout", {}, token=person.token)).code == 200

    async def code() -> int:
        return (await clients.rest.call("GET", "/v1/profile", token=person.token)).code

    await until(code, 401, within=1.0)


async def test_bank_details_are_in_no_log(clients: Clients, stack: Stack) -> None:
    person = await clients.register()
    number = f"CANARY-{uuid.uuid4().hex[:20]}"
    profile = await made(clients, person)
    path = f"/v1/profile/{profile['id']}"
    for value, code in ((number, 200), (number + "!", 400), (number + "0" * 30, 400)):
        reply = await clients.rest.call("PATCH", path, {"bank_account_number": value}, token=person.token)
        assert reply.code == code
    for log in (stack.home / "logs").iterdir():
        assert number.encode() not in log.read_bytes(), log
