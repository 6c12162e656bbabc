"""The identity rows of the contract, by the letter, over REST."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from typing import Any

import pytest

from tests.support.clients import Clients
from tests.support.doors import Reply
from tests.support.mailbox import Mailbox
from tests.support.stack import Stack
from tests.support.waiting import until

USER_FIELDS = {
    "id",
    "email",
    "phone",
    "username",
    "display_name",
    "avatar_url",
    "status",
    "kyc_tier",
    "created_at",
    "updated_at",
}


def phone() -> str:
    return "+6681" + str(secrets.randbelow(10**7)).zfill(7)


def email() -> str:
    return f"{secrets.token_hex(6)}@example.com"


@pytest.mark.parametrize("prefix", ["/v1", ""])
@pytest.mark.parametrize(("kind", "identifier"), [("phone", phone), ("email", email)])
async def test_send_and_verify_a_code(
    clients: Clients, mailbox: Mailbox, prefix: str, kind: str, identifier: Any
) -> None:
    to = identifier()
    body = {"identifier": to, "type": kind, "country": "TH"}
    sent = await clients.rest.call("POST", f"{prefix}/auth/otp/send", body)
    assert sent.code == 200
    assert set(sent.body) == {"success", "session_id", "expires_at"}
    assert sent.body["success"] is True
    code = await mailbox.code(to)
    body = {"session_id": sent.body["session_id"], "code": code}
    done = await clients.rest.call("POST", f"{prefix}/auth/otp/verify", body)
    assert done.code == 200
    assert set(done.body) == {"access_token", "refresh_token", "expires_in", "user"}
    assert set(done.body["user"]) >= USER_FIELDS
    assert done.body["user"][kind] == to
    again = await clients.rest.call("POST", f"{prefix}/auth/otp/verify", body)
    assert (again.code, again.reason) == (401, "CODE_SPENT")


async def test_a_wrong_code_is_401_and_after_five_the_right_one_too(
    clients: Clients, mailbox: Mailbox
) -> None:
    to = phone()
    sent = await clients.rest.call("POST", "/v1/auth/otp/send", {"identifier": to, "type": "phone"})
    code = await mailbox.code(to)
    wrong = {"session_id": sent.body["session_id"], "code": f"{(int(code) + 1) % 1_000_000:06}"}
    for _ in range(5):
        reply = await clients.rest.call("POST", "/v1/auth/otp/verify", wrong)
        assert (reply.code, reply.reason) == (401, "CODE_WRONG")
    reply = await clients.rest.call("POST", "/v1/auth/otp/verify", wrong | {"code": code})
    assert (reply.code, reply.reason) == (401, "CODE_SPENT")


@pytest.mark.parametrize("path", ["/v1/auth/token/refresh", "/auth/token/refresh"])
async def test_refresh(clients: Clients, path: str) -> None:
    person = await clients.register()
    reply = await clients.rest.call("POST", path, {"refresh_token": person.refresh_token})
    assert reply.code == 200
    assert set(reply.body) == {"access_token", "refresh_token", "expires_in"}
    assert (await clients.rest.call("GET", "/v1/me", token=reply.body["access_token"])).code == 200


@pytest.mark.parametrize(("kind", "identifier"), [("phone", phone), ("email", email)])
async def test_register_and_sign_in_by_phone_or_email(clients: Clients, kind: str, identifier: Any) -> None:
    body = {kind: identifier(), "password": "a good password"}
    made = await clients.rest.call("POST", f"/v1/register/{kind}", body)
    assert made.code == 201
    assert made.headers["location"] == "/v1/me"
    assert made.body[kind] == body[kind]
    assert {"email", "phone", "token"} <= set(made.body)
    done = await clients.rest.call("POST", f"/v1/login/{kind}", body)
    assert done.code == 200
    assert done.body[kind] == body[kind]
    assert (await clients.rest.call("GET", "/v1/me", token=done.body["token"])).body[kind] == body[kind]
    wrong = await clients.rest.call("POST", f"/v1/login/{kind}", body | {"password": "another one"})
    assert (wrong.code, wrong.reason) == (401, "INVALID_CREDENTIALS")


async def refused_soon(clients: Clients, token: str) -> float:
    """Seconds until a token answers 401."""

    async def code() -> int:
        return (await clients.rest.call("GET", "/v1/me", token=token)).code

    return await until(code, 401, within=1.0)


async def test_signing_out_and_sessions(clients: Clients) -> None:
    person = await clients.register()
    body = {"username": person.username, "password": person.password}
    other = (await clients.rest.call("POST", "/v1/auth/login", body)).body["access_token"]
    listed = await clients.rest.call("GET", "/v1/sessions", token=person.token)
    assert [session["current"] for session in listed.body["sessions"]] == [False, True]
    victim = listed.body["sessions"][0]["id"]
    gone = await clients.rest.call("DELETE", f"/v1/sessions/{victim}", token=person.token)
    assert (gone.code, gone.raw) == (204, b"")
    await refused_soon(clients, other)
    assert (await clients.rest.call("POST", "/v1/auth/logout", {}, token=person.token)).code == 200
    await refused_soon(clients, person.token)


async def test_somebody_else_s_session_is_not_found(clients: Clients) -> None:
    person, stranger = await clients.register(), await clients.register()
    listed = await clients.rest.call("GET", "/v1/sessions", token=person.token)
    foreign = listed.body["sessions"][0]["id"]
    reply = await clients.rest.call("DELETE", f"/v1/sessions/{foreign}", token=stranger.token)
    assert (reply.code, reply.reason) == (404, "NOT_FOUND")
    assert (await clients.rest.call("GET", "/v1/me", token=person.token)).code == 200


async def test_a_new_password(clients: Clients) -> None:
    person = await clients.register()
    body = {"old_password": person.password, "new_password": "another good one"}
    assert (await clients.rest.call("POST", "/v1/auth/password", body, token=person.token)).code == 200
    reply = await clients.rest.call("POST", "/v1/auth/password", body, token=person.token)
    assert (reply.code, reply.reason) == (401, "INVALID_CREDENTIALS")


async def test_a_forgotten_password(clients: Clients, mailbox: Mailbox) -> None:
    to = email()
    await clients.register(email=to)
    body = {"identifier": to, "type": "email", "purpose": "reset"}
    sent = await clients.rest.call("POST", "/v1/auth/otp/send", body)
    answer = {"session_id": sent.body["session_id"], "code": await mailbox.code(to)}
    assert (await clients.rest.call("POST", "/v1/auth/otp/verify", answer)).reason == "NEW_PASSWORD_REQUIRED"
    answer["new_password"] = "another good one"
    done = await clients.rest.call("POST", "/v1/auth/otp/verify", answer)
    assert done.code == 200
    login = {"email": to, "password": "another good one"}
    assert (await clients.rest.call("POST", "/v1/login/email", login)).code == 200


async def timed(clients: Clients, path: str, body: dict[str, str]) -> tuple[float, Reply]:
    started = time.perf_counter()
    reply = await clients.rest.call("POST", path, body)
    return time.perf_counter() - started, reply


def alike(reply: Reply) -> dict[str, Any]:
    """What of an answer must not depend on who exists."""
    return {**reply.body, "session_id": "", "expires_at": "", "trace_id": "", "code": reply.code}


async def medians(stack: Stack, path: str, pairs: list[tuple[dict[str, str], dict[str, str]]]) -> float:
    """Median time for who exists over that for who does not, of interleaved calls."""
    times: tuple[list[float], list[float]] = ([], [])
    answers = set()
    for number, pair in enumerate(pairs):
        # Each address may call some times a minute: go on from another one in time.
        async with Clients.of(stack) as clients:
            # The first call on a connection is slow; and neither is always before the other.
            await clients.rest.call("GET", "/v1/services")
            for which in (0, 1) if number % 2 else (1, 0):
                seconds, reply = await timed(clients, path, pair[which])
                times[which].append(seconds)
                answers.add(str(sorted(alike(reply).items())))
    assert len(answers) == 1, answers
    return statistics.median(times[0]) / statistics.median(times[1])


@pytest.mark.long
async def test_a_sign_in_s_answer_and_time_do_not_tell_who_exists(stack: Stack, clients: Clients) -> None:
    person = await clients.register(email=email())
    wrong = {"password": "not this one"}
    pairs = [({"username": person.username, **wrong}, {"username": "nobody.at.all", **wrong})] * 200
    assert 0.95 <= await medians(stack, "/v1/auth/login", pairs) <= 1.05


@pytest.mark.long
async def test_a_code_s_answer_and_time_do_not_tell_who_exists(stack: Stack) -> None:
    strangers = [(email(), email()) for _ in range(25)]
    for address, _ in strangers:
        async with Clients.of(stack) as clients:
            await clients.register(email=address)

    def body(address: str) -> dict[str, str]:
        return {"identifier": address, "type": "email", "purpose": "reset"}

    # Both sides are asked for as often: how many codes went there today costs time, too.
    pairs = [(body(address), body(other)) for address, other in strangers for _ in range(8)]
    assert 0.95 <= await medians(stack, "/v1/auth/otp/send", pairs) <= 1.05


async def test_a_reset_is_answered_alike_for_known_and_unknown(clients: Clients) -> None:
    to = email()
    await clients.register(email=to)
    replies = []
    for identifier in (to, email()):
        body = {"identifier": identifier, "type": "email", "purpose": "reset"}
        replies.append(await clients.rest.call("POST", "/v1/auth/otp/send", body))
    assert alike(replies[0]) == alike(replies[1])


async def test_fifty_parallel_refreshes_over_the_edge(clients: Clients) -> None:
    person = await clients.register()
    body = {"refresh_token": person.refresh_token}
    replies = await asyncio.gather(
        *(clients.rest.call("POST", "/v1/auth/token/refresh", body) for _ in range(50))
    )
    assert [reply.code for reply in replies].count(200) <= 1
    assert {reply.reason for reply in replies} <= {"", "REFRESH_TOKEN_REUSED", "SESSION_ENDED"}
    await refused_soon(clients, person.token)
