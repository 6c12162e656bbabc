"""The same wrong request has the same reason through REST, gRPC and gRPC-web."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sampan.identity.v1 import account_pb2, identity_service_pb2
from tests.support import forgery
from tests.support.clients import Clients, Person
from tests.support.doors import Reply
from tests.support.signing import signing_key
from tests.support.stack import Stack

SERVICE = "/sampan.identity.v1.IdentityService"
HTTP = {"UNAUTHENTICATED": 401}


async def register(clients: Clients, **fields: Any) -> list[Reply]:
    """The same registration through each door."""
    raw = identity_service_pb2.RegisterRequest(**fields).SerializeToString()
    answer = identity_service_pb2.RegisterResponse
    return [
        await clients.rest.call("POST", "/v1/auth/register", fields),
        await clients.grpc.call(f"{SERVICE}/Register", raw, answer),
        await clients.grpc_web.call(f"{SERVICE}/Register", raw, answer),
    ]


async def get_me(clients: Clients, token: str | None) -> list[Reply]:
    """Who am I, through each door."""
    return [
        await clients.rest.call("GET", "/v1/me", token=token),
        await clients.grpc.call(f"{SERVICE}/GetMe", b"", account_pb2.Account, token=token),
        await clients.grpc_web.call(f"{SERVICE}/GetMe", b"", account_pb2.Account, token=token),
    ]


def agree(replies: list[Reply], reason: str, http: int, code: int) -> None:
    """All doors gave one reason, REST its status, the others their code, and nobody more than that."""
    assert [reply.reason for reply in replies] == [reason] * len(replies), replies
    assert replies[0].code == http
    assert {reply.code for reply in replies[1:]} <= {code}
    assert replies[0].headers["content-type"] == "application/problem+json"
    problem = replies[0].body
    assert set(problem) >= {"type", "title", "status", "detail", "instance", "reason", "errors", "trace_id"}
    assert problem["status"] == http
    assert "?" not in problem["instance"]
    details = {reply.body["detail"] for reply in replies}
    assert len(details) == 1, details
    for reply in replies:
        for leaked in (b"Traceback", b"asyncpg", b"sqlalchemy", b"upstream", b"envoy", b"Jwt", b"transcod"):
            assert leaked not in reply.raw, reply


@pytest.fixture
async def person(clients: Clients) -> Person:
    return await clients.register()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"username": "ab", "password": "long enough"}, "username"),
        ({"username": "a" * 33, "password": "long enough"}, "username"),
        ({"username": "Not Allowed", "password": "long enough"}, "username"),
        ({"password": "long enough"}, "username"),
        ({"username": "someone"}, "password"),
        ({"username": "someone", "password": "x" * 129}, "password"),
        ({"username": "someone", "password": "long enough", "email": "no address"}, "email"),
        ({"username": "someone", "password": "long enough", "phone": "0812345678"}, "phone"),
        ({"username": "someone", "password": "long enough", "display_name": "x" * 65}, "display_name"),
    ],
)
async def test_a_field_that_breaks_its_rule(clients: Clients, fields: dict[str, str], field: str) -> None:
    replies = await register(clients, **fields)
    agree(replies, "INVALID_ARGUMENT", 400, 3)
    for reply in replies:
        assert field in {error["field"] for error in reply.body["errors"]}
    assert len({str(reply.body["errors"]) for reply in replies}) == 1


async def test_a_message_that_cannot_be_read(clients: Clients) -> None:
    path = f"{SERVICE}/Register"
    answer = identity_service_pb2.RegisterResponse
    replies = [
        await clients.rest.call("POST", "/v1/auth/register", content=b'{"username": "a'),
        await clients.grpc.call(path, b"\xff\xff\xff", answer),
        await clients.grpc_web.call(path, b"\xff\xff\xff", answer),
    ]
    agree(replies, "MALFORMED_REQUEST", 400, 3)


@pytest.mark.parametrize(
    "content",
    [
        b'{"username": {"a": 1}}',
        b'{"username": ["a"]}',
        b"[]",
        b'"text"',
        b"nothing",
        b'{"username": "\xff\xfe"}',
        b"\x00",
        b'{"username":' * 500,
        b"{" * 20_000,
        b'{"username": "a", "username": "b"',
    ],
)
async def test_json_of_another_shape_is_malformed(clients: Clients, content: bytes) -> None:
    agree(
        [await clients.rest.call("POST", "/v1/auth/register", content=content)], "MALFORMED_REQUEST", 400, 3
    )


async def test_an_unknown_query_parameter(clients: Clients, person: Person) -> None:
    reply = await clients.rest.call("GET", "/v1/me?colour=blue", token=person.token)
    agree([reply], "UNKNOWN_QUERY_PARAMETER", 400, 3)


async def test_unknown_body_fields_are_ignored_and_both_cases_are_taken(clients: Clients) -> None:
    body = {"username": "Not Allowed", "password": "long enough", "displayName": "x" * 65, "colour": "blue"}
    reply = await clients.rest.call("POST", "/v1/auth/register", body)
    assert {error["field"] for error in reply.body["errors"]} == {"username", "display_name"}


async def test_a_body_that_is_not_json_by_its_type(clients: Clients) -> None:
    reply = await clients.rest.call(
        "POST", "/v1/auth/login", content=b"username=a", content_type="application/x-www-form-urlencoded"
    )
    agree([reply], "UNSUPPORTED_MEDIA_TYPE", 415, 3)


async def test_no_token(clients: Clients) -> None:
    replies = await get_me(clients, None)
    agree(replies, "TOKEN_MISSING", 401, 16)


async def test_a_good_token_is_good_through_every_door(clients: Clients, person: Person) -> None:
    replies = await get_me(clients, person.token)
    assert [reply.reason for reply in replies] == [""] * 3, replies
    assert {reply.body["id"] for reply in replies} == {person.id}


async def test_wrong_tokens(clients: Clients, person: Person, stack: Stack) -> None:
    key, kid = await signing_key(stack)
    forgeries = {
        "other key": forgery.other_key,
        "changed claims": forgery.changed_claims,
        "alg none": forgery.unsigned,
        "HS256 with the public key": forgery.symmetric(key.public_key().public_bytes_raw()),
        "wrong audience": forgery.resigned(key, kid, aud="another"),
        "wrong issuer": forgery.resigned(key, kid, iss="another"),
        "unknown key id": forgery.resigned(key, "unknown"),
        "padded": forgery.padded,
        "cut": lambda token: token[:-4],
        "garbage": lambda _: "garbage",
        "three empty parts": lambda _: "..",
    }
    assert [reply.reason for reply in await get_me(clients, forgery.resigned(key, kid)(person.token))] == [
        ""
    ] * 3
    for name, forge in forgeries.items():
        replies = await get_me(clients, forge(person.token))
        assert [reply.reason for reply in replies] == ["TOKEN_INVALID"] * 3, (name, replies)
        agree(replies, "TOKEN_INVALID", 401, 16)
    agree(await get_me(clients, forgery.expired(key, kid)(person.token)), "TOKEN_EXPIRED", 401, 16)


async def test_every_padding_of_every_part_is_refused(clients: Clients, person: Person) -> None:
    header, claims, signature = person.token.split(".")
    for token in (
        f"{header}=.{claims}.{signature}",
        f"{header}.{claims}=.{signature}",
        f"{header}.{claims}.{signature}=",
        f"{header}.{claims}.{signature}====",
        _other_spare_bits(person.token),
    ):
        assert {reply.reason for reply in await get_me(clients, token)} == {"TOKEN_INVALID"}, token


def _other_spare_bits(token: str) -> str:
    """An Ed25519 signature has 64 bytes: its last character carries four bits that decoders ignore."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


async def test_an_unknown_route(clients: Clients) -> None:
    replies = [
        await clients.rest.call("GET", "/v1/nothing"),
        await clients.grpc.call(f"{SERVICE}/Nothing", b"", account_pb2.Account),
        await clients.grpc_web.call(f"{SERVICE}/Nothing", b"", account_pb2.Account),
    ]
    agree(replies, "ROUTE_NOT_FOUND", 404, 12)
    assert (await clients.rest.call("DELETE", "/v1/me")).reason == "ROUTE_NOT_FOUND"
    for path in ("/sampan.probe.v1.ProbeService/Echo", "/sampan.none.v1.None/Get"):
        assert (await clients.grpc.call(path, b"", account_pb2.Account)).reason == "ROUTE_NOT_FOUND"


async def test_a_body_of_two_megabytes(clients: Clients) -> None:
    fields = {"username": "someone", "password": "x" * 2_000_000}
    agree(await register(clients, **fields), "REQUEST_TOO_LARGE", 413, 8)


async def test_a_taken_user_name(clients: Clients, person: Person) -> None:
    replies = await register(clients, username=person.username, password="long enough")
    agree(replies, "USERNAME_TAKEN", 409, 6)


async def test_too_many_calls(clients: Clients, person: Person) -> None:
    async def call() -> Reply:
        return await clients.rest.call("GET", "/v1/me", token=person.token)

    replies: list[Reply] = []
    # Tokens trickle back all the time: go on until every door refuses at once.
    for _ in range(60):
        *_, replies = await asyncio.gather(*(call() for _ in range(40)), get_me(clients, person.token))
        if all(reply.reason for reply in replies):
            break
    assert [reply.reason for reply in replies] == ["RATE_LIMITED"] * 3
    assert replies[0].code == 429
    assert {reply.code for reply in replies[1:]} == {8}
    assert int(replies[0].headers["retry-after"]) >= 1
    assert replies[0].headers["ratelimit-limit"] == "600"
    assert replies[0].headers["ratelimit-remaining"] == "0"


async def test_another_key_s_token_is_not_remembered_as_good(clients: Clients, person: Person) -> None:
    for _ in range(3):
        assert {reply.reason for reply in await get_me(clients, person.token)} == {""}
        forged = forgery.signed(Ed25519PrivateKey.generate(), *forgery.parts(person.token)[:2])
        assert {reply.reason for reply in await get_me(clients, forged)} == {"TOKEN_INVALID"}
