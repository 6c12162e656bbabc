"""A canary person: phone, e-mail and bank account lie in the clear nowhere, and go with their key."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess

import asyncpg
import pytest
import redis.asyncio as redis

from services.stack.binaries import postgres_programs
from services.stack.topology import SERVICES
from tests.support.clients import Clients
from tests.support.mailbox import Mailbox
from tests.support.stack import Stack


def disguises(value: str) -> list[bytes]:
    """How a text may show up: as it is, as PostgreSQL's hex, in JSON, in base64."""
    raw = value.encode()
    return [raw, raw.hex().encode(), base64.b64encode(raw)[:-4], json.dumps(value)[1:-1].encode()]


def dumps(stack: Stack) -> dict[str, bytes]:
    """Every table of every database, as text."""
    found = {}
    for name, service in SERVICES.items():
        if service.database:
            found[f"database {name}"] = subprocess.run(
                [postgres_programs() / "pg_dump", stack.addresses.database(name, owner=True)],
                capture_output=True,
                check=True,
                timeout=60,
            ).stdout
    return found


async def everything(stack: Stack) -> dict[str, bytes]:
    """All that the stack keeps: databases, Redis, streams, logs."""
    found = dumps(stack)
    found["redis"] = b""
    for name in SERVICES:
        # Each service may read what is its own, and nothing else.
        client = redis.Redis.from_url(stack.addresses.redis(name))
        try:
            for pattern in (f"{name}:*", f"ratelimit:{name}:*"):
                async for key in client.scan_iter(match=pattern):
                    found["redis"] += key + (await client.dump(key) or b"")
        finally:
            await client.aclose()
    for folder in ("nats", "logs", "run"):
        for path in (stack.home / folder).rglob("*"):
            if path.is_file():
                found[str(path.relative_to(stack.home))] = path.read_bytes()
    return found


@pytest.fixture
def secrets_of_canary() -> dict[str, str]:
    unique = secrets.token_hex(5)
    return {
        "email": f"canary-{unique}@canary.example",
        "phone": "+6681" + str(secrets.randbelow(10**7)).zfill(7),
        "bank": "77" + str(secrets.randbelow(10**12)).zfill(12),
    }


async def test_a_canary_is_found_nowhere_and_is_gone_with_its_key(
    stack: Stack, clients: Clients, mailbox: Mailbox, secrets_of_canary: dict[str, str]
) -> None:
    email, phone, bank = secrets_of_canary.values()
    person = await clients.register(email=email, phone=phone)
    codes = []
    for to, kind in ((email, "email"), (phone, "phone")):
        await clients.rest.call("POST", "/v1/auth/otp/send", {"identifier": to, "type": kind})
        codes.append(await mailbox.code(to))
        await clients.rest.call("POST", "/v1/auth/login", {kind: to, "password": "wrong one"})
    await clients.rest.call("POST", "/v1/auth/otp/send", {"identifier": phone + "999", "type": "phone"})
    body = {"display_name": "Canary", "bank_account_name": "Canary Bank", "bank_account_holder": "C Anary"}
    made = await clients.rest.call(
        "POST", "/v1/profile", body | {"bank_account_number": bank}, token=person.token
    )
    assert made.code == 201, made
    assert made.body["bank_account_number"] == bank
    for place, content in (await everything(stack)).items():
        for secret in (email, phone, bank):
            for disguise in disguises(secret):
                assert disguise not in content, (place, disguise)
        if place.startswith("logs"):
            for code in codes:
                assert f'"{code}"'.encode() not in content

    for service in ("identity", "profile"):
        connection = await asyncpg.connect(stack.addresses.database(service, owner=True))
        try:
            column = "account_id" if service == "identity" else "user_id"
            await connection.execute(f"DELETE FROM person_keys WHERE {column} = $1", person.id)  # noqa: S608
        finally:
            await connection.close()
    me = await clients.rest.call("GET", "/v1/me", token=person.token)
    assert (me.code, me.body["email"], me.body["phone"]) == (200, "", "")
    own = await clients.rest.call("GET", "/v1/profile", token=person.token)
    assert (own.code, own.body["bank_account_number"]) == (200, "")
