"""kill -9 between the effect and the answer: the same request again has one effect."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support import parts
from tests.support.clients import Clients
from tests.support.doors import Reply
from tests.support.faults import armed
from tests.support.stack import Stack
from tests.support.survival import events_settled

PASSWORD = "a good password"
# Runs the services that are killed here.
PROCESS = "people"
WITHIN = 30


@pytest.fixture
async def people(victim: Stack) -> AsyncIterator[Clients]:
    async with Clients.of(victim) as found:
        yield found


async def until_answered(clients: Clients, method: str, path: str, body: Any, **more: Any) -> Reply:
    """The first answer that is neither a lost one nor UNAVAILABLE, to the same request again and again."""
    started = time.monotonic()
    while time.monotonic() - started < WITHIN:
        try:
            reply = await clients.rest.call(method, path, body, **more)
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        if reply.code not in {503, 504}:
            return reply
        await asyncio.sleep(0.05)
    raise AssertionError("no answer in time")


async def counted(stack: Stack, service: str, what: str, *arguments: Any) -> int:
    """What is in the database of a service."""
    connection = await asyncpg.connect(stack.addresses.database(service, owner=True))
    try:
        found: int = await connection.fetchval(what, *arguments)
        return found
    finally:
        await connection.close()


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
async def test_a_registration_makes_one_account(
    victim: Stack, folder: Path, people: Clients, moment: str
) -> None:
    pid = parts.pid_of(victim, PROCESS)
    body = {
        "username": "u" + secrets.token_hex(8),
        "password": PASSWORD,
        "request_id": str(uuid.uuid4()),
    }
    with armed(folder, f"identity.register.{moment}", "kill"):
        lost = await people.rest.call("POST", "/v1/auth/register", body)
        assert lost.code == 503, lost
        done = await until_answered(people, "POST", "/v1/auth/register", body)
    assert done.code == 201, done
    assert done.headers["location"] == "/v1/me"
    again = await people.rest.call("POST", "/v1/auth/register", body)
    assert (again.code, again.raw, again.headers["location"]) == (201, done.raw, "/v1/me")
    sessions = "SELECT count(*) FROM sessions JOIN accounts a ON a.id = account_id WHERE username = $1"
    assert await counted(victim, "identity", sessions, body["username"]) == 1
    assert await parts.another(victim, PROCESS, pid) != pid


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
async def test_a_code_is_sent_once(victim: Stack, folder: Path, people: Clients, moment: str) -> None:
    to = "+6681" + str(secrets.randbelow(10**7)).zfill(7)
    body = {"identifier": to, "type": "phone", "request_id": str(uuid.uuid4())}
    await events_settled(victim)
    before = await counted(victim, "notification", "SELECT count(*) FROM deliveries")
    with armed(folder, f"identity.send_otp.{moment}", "kill"):
        lost = await people.rest.call("POST", "/v1/auth/otp/send", body)
        assert lost.code == 503, lost
        done = await until_answered(people, "POST", "/v1/auth/otp/send", body)
    assert done.code == 200, done
    assert (await people.rest.call("POST", "/v1/auth/otp/send", body)).raw == done.raw
    assert await counted(victim, "notification", "SELECT count(*) FROM deliveries") == before + 1


async def test_a_code_whose_delivery_was_acknowledged_to_nobody_is_sent_once(
    victim: Stack, folder: Path, people: Clients
) -> None:
    to = "+6681" + str(secrets.randbelow(10**7)).zfill(7)
    body = {"identifier": to, "type": "phone", "request_id": str(uuid.uuid4())}
    await events_settled(victim)
    before = await counted(victim, "notification", "SELECT count(*) FROM deliveries")
    with armed(folder, "notification.deliver.after_commit", "kill"):
        lost = await people.rest.call("POST", "/v1/auth/otp/send", body)
        assert lost.code == 503, lost
        done = await until_answered(people, "POST", "/v1/auth/otp/send", body)
    assert done.code == 200, done
    assert await counted(victim, "notification", "SELECT count(*) FROM deliveries") == before + 1


async def test_a_profile_is_made_changed_and_deleted_once(
    victim: Stack, folder: Path, people: Clients
) -> None:
    person = await people.register()
    body = {"display_name": "A", "request_id": str(uuid.uuid4())}
    with armed(folder, "profile.create.after_commit", "kill"):
        lost = await people.rest.call("POST", "/v1/profile", body, token=person.token)
        assert lost.code == 503, lost
        made = await until_answered(people, "POST", "/v1/profile", body, token=person.token)
    assert made.code == 201, made
    path = f"/v1/profile/{made.body['id']}"
    assert made.headers["location"] == path
    change = {"bio": "B", "request_id": str(uuid.uuid4())}
    with armed(folder, "profile.update.after_commit", "kill"):
        lost = await people.rest.call("PATCH", path, change, token=person.token)
        assert lost.code == 503, lost
        changed = await until_answered(people, "PATCH", path, change, token=person.token)
    assert (changed.code, changed.body["bio"]) == (200, "B")
    path += f"?request_id={uuid.uuid4()}"
    with armed(folder, "profile.delete.after_commit", "kill"):
        lost = await people.rest.call("DELETE", path, token=person.token)
        assert lost.code == 503, lost
        deleted = await until_answered(people, "DELETE", path, None, token=person.token)
    assert deleted.code == 204, deleted


async def test_a_frozen_database_is_waited_for_and_the_same_request_has_one_effect(
    victim: Stack, people: Clients
) -> None:
    body = {
        "username": "u" + secrets.token_hex(8),
        "password": PASSWORD,
        "request_id": str(uuid.uuid4()),
    }
    with parts.hanging(victim, "postgres"):
        lost = await people.rest.call("POST", "/v1/auth/register", body)
        assert lost.code in {503, 504}, lost
    done = await until_answered(people, "POST", "/v1/auth/register", body)
    assert done.code == 201, done
    await parts.well(victim)
    accounts = "SELECT count(*) FROM accounts WHERE username = $1"
    assert await counted(victim, "identity", accounts, body["username"]) == 1
