"""What an operator does about people and keys."""

from __future__ import annotations

import jwt

from tests.support.clients import Clients
from tests.support.stack import Stack
from tests.support.waiting import until


async def test_a_role_ends_sessions_and_the_next_sign_in_has_it(stack: Stack, clients: Clients) -> None:
    person = await clients.register()
    done = stack.command("admin", "grant", person.username)
    assert done.returncode == 0, done.stderr
    assert f"{person.id} has admin" in done.stdout

    async def code() -> int:
        return (await clients.rest.call("GET", "/v1/me", token=person.token)).code

    await until(code, 401, within=1.0)
    body = {"username": person.username, "password": person.password}
    token = (await clients.rest.call("POST", "/v1/auth/login", body)).body["access_token"]
    assert jwt.decode(token, options={"verify_signature": False})["roles"] == ["admin"]
    assert (await clients.rest.call("GET", "/v1/me", token=token)).body["roles"] == ["admin"]
    taken = stack.command("admin", "grant", person.id, "--revoke")
    assert "has no role" in taken.stdout


async def test_granting_to_nobody_says_so(stack: Stack) -> None:
    done = stack.command("admin", "grant", "nobody.at.all")
    assert done.returncode != 0
    assert "no such person" in done.stderr


async def test_a_new_key_is_published_before_it_signs(stack: Stack, clients: Clients) -> None:
    async def published() -> list[str]:
        keys = (await clients.rest.call("GET", "/.well-known/jwks.json")).body["keys"]
        return [key["kid"] for key in keys]

    before = await published()
    done = stack.command("identity", "rotate-keys")
    assert done.returncode == 0, done.stderr
    kid = done.stdout.split()[0]
    assert await published() == [kid, *before]
    person = await clients.register()
    assert jwt.get_unverified_header(person.token)["kid"] in before
    assert (await clients.rest.call("GET", "/v1/me", token=person.token)).code == 200
