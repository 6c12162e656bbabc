"""`sampan outbox` on the running stack."""

from __future__ import annotations

import json
import secrets

import pytest

from services.stack.service_parts import peers
from tests.support.notification import client_of
from tests.support.stack import Stack


@pytest.fixture
def number() -> str:
    return "+668" + "".join(secrets.choice("0123456789") for _ in range(8))


async def test_the_last_message_is_one_json_object_at_once_after_the_order(stack: Stack, number: str) -> None:
    place = peers(stack.state.ports)["notification"][0]
    async with client_of(place, stack.pki) as client:
        for code in ("111111", "222222"):
            await client.deliver(number, parameters={"code": code, "minutes": "5"})
            done = stack.command("outbox", "--to", number, "--last")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout) == {
                "to": number,
                "channel": "sms",
                "body": f"{code} is your Sampan sign-in code, good for 5 min. Never give it to anyone.",
                "code": code,
            }
        await client.deliver(number, "password_changed")
    lines = stack.command("outbox", "--to", number).stdout.splitlines()
    shown = [json.loads(line) for line in lines]
    assert [one.get("code") for one in shown] == [None, "222222", "111111"]
    assert len(stack.command("outbox", "--to", number, "--limit", "2").stdout.splitlines()) == 2


async def test_an_empty_outbox_says_so_and_fails(stack: Stack, number: str) -> None:
    done = stack.command("outbox", "--to", number, "--last")
    assert done.returncode == 1
    assert done.stdout == ""
    assert number in done.stderr
    assert "Traceback" not in done.stderr


async def test_health_knows_services_that_have_internal_methods_only(stack: Stack) -> None:
    done = stack.command("health", "notification")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "healthy" in done.stdout
