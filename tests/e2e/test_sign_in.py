"""A person registers, signs in and asks who they are, through each door."""

from __future__ import annotations

import secrets

import httpx
import pytest

from sampan.identity.v1 import account_pb2, identity_service_pb2
from tests.support.clients import Clients
from tests.support.doors import GrpcDoor, GrpcWebDoor, RestDoor

SERVICE = "/sampan.identity.v1.IdentityService"


def name() -> str:
    return "n" + secrets.token_hex(6)


async def test_register_answers_201_with_location_and_everything_one_needs(rest: RestDoor) -> None:
    username = name()
    body = {
        "username": username,
        "password": "a good password",
        "email": f"{username}@example.com",
        "phone": "+66812345678",
    }
    reply = await rest.call("POST", "/v1/auth/register", body)
    assert reply.code == 201
    assert reply.headers["location"] == "/v1/me"
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.body["username"] == username
    assert reply.body["token"] == reply.body["access_token"]
    assert reply.body["refresh_token"]
    assert reply.body["expires_in"] == 900
    assert reply.body["user"]["email"] == f"{username}@example.com"
    assert "x-http-code" not in reply.headers


async def test_me_shows_every_field_even_the_empty_ones(clients: Clients) -> None:
    person = await clients.register(display_name="Somchai ใจดี")
    reply = await clients.rest.call("GET", "/v1/me", token=person.token)
    assert reply.code == 200
    assert reply.body["display_name"] == "Somchai ใจดี"
    assert reply.body["kyc_tier"] == 0
    assert reply.body["status"] == "active"
    assert reply.body["email"] == ""
    expected = "id email phone username display_name avatar_url status kyc_tier created_at updated_at"
    assert set(expected.split()) <= set(reply.body)
    alias = await clients.rest.call("GET", "/users/profile", token=person.token)
    assert alias.body == reply.body


@pytest.mark.parametrize("path", ["/v1/auth/login", "/auth/login"])
async def test_sign_in_by_user_name_email_or_phone(clients: Clients, path: str) -> None:
    unique = name()
    phone = "+6681" + str(secrets.randbelow(10**7)).zfill(7)
    person = await clients.register(username=unique, email=f"{unique}@Example.com", phone=phone)
    for identifier in (
        {"username": unique},
        {"email": f"{unique}@example.com"},
        {"email": f"{unique.upper()}@EXAMPLE.COM"},
        {"phone": phone},
    ):
        reply = await clients.rest.call("POST", path, identifier | {"password": person.password})
        assert reply.code == 200, reply
        assert reply.body["id"] == person.id


async def test_a_wrong_password_and_an_unknown_name_are_answered_alike(clients: Clients) -> None:
    person = await clients.register()
    wrong = await clients.rest.call(
        "POST", "/v1/auth/login", {"username": person.username, "password": "not this one"}
    )
    unknown = await clients.rest.call(
        "POST", "/v1/auth/login", {"username": name(), "password": "not this one"}
    )
    assert wrong.code == unknown.code == 401
    assert wrong.reason == unknown.reason == "INVALID_CREDENTIALS"
    assert {**wrong.body, "trace_id": ""} == {**unknown.body, "trace_id": ""}


async def test_a_common_password_is_refused(rest: RestDoor) -> None:
    reply = await rest.call("POST", "/v1/auth/register", {"username": name(), "password": "Password123"})
    assert (reply.code, reply.reason) == (400, "PASSWORD_TOO_COMMON")


async def test_a_phone_number_that_cannot_exist_is_refused(rest: RestDoor) -> None:
    body = {"username": name(), "password": "a good password", "phone": "+6600000000"}
    reply = await rest.call("POST", "/v1/auth/register", body)
    assert (reply.code, reply.reason) == (400, "PHONE_INVALID")


async def test_sign_in_over_grpc(clients: Clients, grpc_door: GrpcDoor) -> None:
    person = await clients.register()
    request = identity_service_pb2.LoginRequest(username=person.username, password=person.password)
    done = await grpc_door.call(
        f"{SERVICE}/Login", request.SerializeToString(), identity_service_pb2.LoginResponse
    )
    assert done.reason == ""
    token = done.body["access_token"]
    me = await grpc_door.call(f"{SERVICE}/GetMe", b"", account_pb2.Account, token=token)
    assert me.body["id"] == person.id


async def test_sign_in_over_grpc_web(clients: Clients, grpc_web: GrpcWebDoor) -> None:
    person = await clients.register()
    request = identity_service_pb2.LoginRequest(username=person.username, password=person.password)
    done = await grpc_web.call(
        f"{SERVICE}/Login", request.SerializeToString(), identity_service_pb2.LoginResponse
    )
    assert done.reason == "", done
    me = await grpc_web.call(f"{SERVICE}/GetMe", b"", account_pb2.Account, token=done.body["access_token"])
    assert me.body["id"] == person.id


async def test_a_browser_may_ask_from_an_allowed_origin_only(clients: Clients) -> None:
    async def preflight(origin: str, path: str) -> httpx.Response:
        return await clients.http.options(
            path,
            headers={
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,content-type,x-grpc-web",
            },
        )

    for path in ("/v1/auth/login", f"{SERVICE}/Login"):
        allowed = await preflight("http://localhost:3000", path)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert "access-control-allow-origin" not in (await preflight("https://evil.example", path)).headers
    answer = await clients.http.get("/v1/me", headers={"origin": "http://localhost:3000"})
    assert "grpc-status-details-bin" in answer.headers["access-control-expose-headers"]


async def test_the_keys_of_tokens_are_public(rest: RestDoor) -> None:
    reply = await rest.call("GET", "/.well-known/jwks.json")
    assert reply.code == 200
    assert [key["kty"] for key in reply.body["keys"]] == ["OKP"] * len(reply.body["keys"])
    assert all("d" not in key for key in reply.body["keys"])
