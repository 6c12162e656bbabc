"""Notification on its real database: orders, the outbox, what is refused, what is kept and for how long."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest

from sampan.notification.v1 import notification_internal_service_pb2 as pb
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.databases import Clone
from tests.support.notification import QUICK, Client, client_of, notifying, told
from tests.support.providers import until


def number() -> str:
    """A phone number that no other test uses."""
    return "+668" + "".join(secrets.choice("0123456789") for _ in range(8))


@pytest.fixture
async def client(notification: tuple[App, str], pki: Pki) -> AsyncIterator[Client]:
    async with client_of(notification[1], pki) as found:
        yield found


@pytest.fixture
async def owner(notification_database: Clone) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(notification_database.owner_url)
    yield connection
    await connection.close()


async def refused(call: object) -> tuple[grpc.StatusCode, str, list[str]]:
    """Code, reason and fields of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call  # type: ignore[misc]
    return raised.value.code(), *told(raised.value)


async def test_the_outbox_has_a_message_as_soon_as_the_order_is_answered_newest_first(client: Client) -> None:
    to = number()
    for code in ("111111", "222222"):
        await client.deliver(to, parameters={"code": code, "minutes": "5"}, language="id")
        newest = (await client.list(to))[0]
        assert (newest.to, newest.channel, newest.status, newest.code) == (to, "sms", "sent", code)
        assert newest.body.startswith(f"{code} adalah kode masuk")
    assert [one.code for one in await client.list(to)] == ["222222", "111111"]
    assert [one.code for one in await client.list(to, limit=1)] == ["222222"]


async def test_an_address_is_found_in_any_case_and_others_are_not(client: Client) -> None:
    name = secrets.token_hex(6)
    await client.deliver(f"{name}@Example.com", "password_changed")
    (found,) = await client.list(f"{name}@example.COM")
    assert (found.to, found.code) == (f"{name}@Example.com", "")
    assert await client.list(f"x{name}@example.com") == []


async def test_lists_have_ten_unless_told_and_never_over_a_hundred(client: Client) -> None:
    to = number()
    for _ in range(12):
        await client.deliver(to)
    assert len(await client.list(to)) == 10
    assert len(await client.list(to, limit=100)) == 12
    code, _, fields = await refused(client.list(to, limit=101))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["limit"])


async def test_fifty_equal_orders_are_one_delivery(client: Client, owner: asyncpg.Connection) -> None:
    request_id = str(uuid.uuid4())
    to = number()
    ids = await asyncio.gather(*(client.deliver(to, request_id=request_id) for _ in range(50)))
    assert len(set(ids)) == 1
    assert await owner.fetchval("SELECT count(*) FROM deliveries WHERE request_id = $1", request_id) == 1
    assert len(await client.list(to)) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"parameters": {"code": "654321", "minutes": "5"}},
        {"template": "code_reset"},
        {"language": "th"},
        {"to": "+66812345670"},
        {"to": "somchai@example.com", "channel": "email"},
    ],
    ids="-".join,
)
async def test_another_order_under_a_used_request_id_is_refused(
    client: Client, changed: dict[str, object]
) -> None:
    order = {
        "to": number(),
        "request_id": str(uuid.uuid4()),
        "parameters": {"code": "123456", "minutes": "5"},
    }
    first = await client.deliver(**order)  # type: ignore[arg-type]
    code, reason, _ = await refused(client.deliver(**{**order, **changed}))  # type: ignore[arg-type]
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED")
    assert await client.deliver(**order) == first  # type: ignore[arg-type]
    assert len(await client.list(str(order["to"]))) == 1


@pytest.mark.parametrize(
    ("changed", "reason", "fields"),
    [
        ({"template": "nothing"}, "INVALID_ARGUMENT", ["template"]),
        ({"channel": "pigeon"}, "INVALID_ARGUMENT", ["channel"]),
        ({"request_id": ""}, "INVALID_ARGUMENT", ["request_id"]),
        ({"request_id": "1"}, "INVALID_ARGUMENT", ["request_id"]),
        ({"to": ""}, "INVALID_ARGUMENT", ["to"]),
        ({"to": "a" * 250 + "@b.co"}, "INVALID_ARGUMENT", ["to"]),
        ({"language": "x" * 36}, "INVALID_ARGUMENT", ["language"]),
        ({"parameters": {"code": "1" * 201}}, "INVALID_ARGUMENT", ["parameters[code]"]),
        ({"parameters": {str(i): "1" for i in range(9)}}, "INVALID_ARGUMENT", ["parameters"]),
        ({"parameters": {}}, "PARAMETER_INVALID", ["parameters[code]", "parameters[minutes]"]),
        ({"parameters": {"code": "12", "minutes": "5"}}, "PARAMETER_INVALID", ["parameters[code]"]),
        ({"to": "0812345678"}, "RECIPIENT_INVALID", ["to"]),
        ({"channel": "email"}, "RECIPIENT_INVALID", ["to"]),
        ({"to": "a@b\r\nBcc: c@d", "channel": "email"}, "RECIPIENT_INVALID", ["to"]),
    ],
    ids=str,
)
async def test_orders_that_break_a_rule_are_refused_by_field(
    client: Client, owner: asyncpg.Connection, changed: dict[str, object], reason: str, fields: list[str]
) -> None:
    before = await owner.fetchval("SELECT count(*) FROM deliveries")
    order: dict[str, object] = {"to": "+66812345678", "channel": "sms", **changed}
    found = await refused(client.deliver(**order))  # type: ignore[arg-type]
    assert found == (grpc.StatusCode.INVALID_ARGUMENT, reason, fields)
    assert await owner.fetchval("SELECT count(*) FROM deliveries") == before


async def test_only_those_named_may_call(client: Client) -> None:
    order = pb.DeliverRequest(channel="sms", to="+66812345678", template="no_account")
    listing = pb.ListDeliveriesRequest()
    replay = pb.ReplayDeadRequest(all=True)
    for call in (
        client.operator.Deliver(order),
        client.identity.ListDeliveries(listing),
        client.identity.ReplayDead(replay),
    ):
        assert (await refused(call))[:2] == (grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")


async def test_the_running_role_changes_no_schema_and_nobodys_recipient(
    client: Client, notification_database: Clone
) -> None:
    await client.deliver(number())
    connection = await asyncpg.connect(notification_database.runtime_url)
    try:
        for statement in (
            "UPDATE deliveries SET recipient = '\\x00'",
            "UPDATE deliveries SET caller = 'x'",
            "TRUNCATE deliveries",
            "ALTER TABLE deliveries ADD x int",
            "CREATE TABLE x (x int)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_what_is_too_old_is_deleted_and_nothing_else(
    client: Client, notification_database: Clone, owner: asyncpg.Connection, pki: Pki
) -> None:
    to = number()
    ids = [uuid.UUID(await client.deliver(to)) for _ in range(5)]
    sent_old, dead_fresh, dead_old, pending_old, _ = ids

    async def change(one: uuid.UUID, status: str, days: int) -> None:
        made = "now() - make_interval(days => $3)"
        query = f"UPDATE deliveries SET status = $2, created_at = {made}, settled_at = {made} WHERE id = $1"  # noqa: S608
        await owner.execute(query, one, status, days)

    await change(sent_old, "sent", 1)
    await change(dead_fresh, "dead", 6)
    await change(dead_old, "dead", 8)
    await change(pending_old, "pending", 8)

    async def swept() -> bool:
        left = {row["id"] for row in await owner.fetch("SELECT id FROM deliveries WHERE id = ANY($1)", ids)}
        return left == set(ids) - {sent_old, dead_old}

    async with notifying(notification_database, pki, **QUICK, retention_seconds=3600):
        await until(swept)
    assert await swept()
