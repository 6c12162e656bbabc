"""Notification with real providers: sent once, tried again, given up, replayed, and mended after a crash."""

from __future__ import annotations

import asyncio
import base64
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import grpc
import pytest

from sampan.notification.v1 import notification_internal_service_pb2 as pb
from services.mesh.database import Database
from services.notification import repository
from services.notification.domain import Channel, Status
from services.stack.pki import Pki
from tests.support.databases import Clone, notification_app
from tests.support.mesh import serving
from tests.support.notification import by_http, by_smtp, client_of, dump, events, notifying, own_process, told
from tests.support.providers import localhost_tls, sms_server, smtp_server, until
from tests.support.stack import free_port

NUMBER = "+66812345678"


def address() -> str:
    return f"n{secrets.token_hex(6)}@example.com"


@pytest.fixture(autouse=True)
async def owner(notification_database: Clone) -> AsyncIterator[asyncpg.Connection]:
    """The database as its owner sees it. Empty: workers of one test must not find work of another."""
    connection = await asyncpg.connect(notification_database.owner_url)
    await connection.execute("TRUNCATE deliveries")
    yield connection
    await connection.close()


async def test_an_email_arrives_once_with_subject_text_and_id_and_leaves_no_text_behind(
    notification_database: Clone, owner: asyncpg.Connection, pki: Pki
) -> None:
    with smtp_server() as mailbox:
        # Woken by the order: nobody looks for it for a minute.
        async with notifying(notification_database, pki, **by_smtp(mailbox, poll_seconds=60)) as client:
            to = address()
            delivery = await client.deliver(to, language="th")
            shown = await client.wait_for(delivery, "sent")
    (mail,) = mailbox.mails
    assert (mail["To"], mail["From"]) == (to, "no-reply@sampan.example")
    assert mailbox.envelopes[0].rcpt_tos == [to]
    assert mail["Subject"] == "รหัสเข้าสู่ระบบ Sampan ของคุณ"
    assert mail["Message-ID"] == f"<{delivery}@sampan.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().startswith("123456 คือรหัส")
    assert (shown.attempts, shown.body, shown.code, shown.to) == (1, "", "", "")
    assert await owner.fetchval("SELECT sealed FROM deliveries") is None


async def test_fifty_equal_orders_are_one_email(notification_database: Clone, pki: Pki) -> None:
    with smtp_server() as mailbox:
        async with notifying(notification_database, pki, **by_smtp(mailbox)) as client:
            to, request_id = address(), str(uuid.uuid4())
            ids = await asyncio.gather(*(client.deliver(to, request_id=request_id) for _ in range(50)))
            assert (await client.wait_for(ids[0], "sent")).attempts == 1
    assert len(set(ids)) == 1
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize("stage", ["rcpt", "data"])
async def test_an_email_refused_for_a_while_is_tried_again(
    notification_database: Clone, pki: Pki, stage: str
) -> None:
    with smtp_server() as mailbox:
        getattr(mailbox, stage).extend(["451 later", "421 later"])
        async with notifying(notification_database, pki, **by_smtp(mailbox)) as client:
            done = await client.wait_for(await client.deliver(address()), "sent")
    assert (done.attempts, done.failure, len(mailbox.mails)) == (3, "", 1)


@pytest.mark.parametrize("stage", ["rcpt", "data"])
async def test_an_email_refused_for_good_is_dead_until_it_is_replayed(
    notification_database: Clone, pki: Pki, stage: str
) -> None:
    with smtp_server() as mailbox:
        getattr(mailbox, stage).append("550 no")
        async with notifying(notification_database, pki, **by_smtp(mailbox, poll_seconds=60)) as client:
            to = address()
            delivery = await client.deliver(to)
            dead = await client.wait_for(delivery, "dead")
            assert (dead.attempts, dead.failure) == (1, "smtp 550")
            # What may still be sent is nobody's to read.
            assert (dead.to, dead.body, dead.code) == (to, "", "")
            assert [one.id for one in await client.list(status="dead")] == [delivery]
            done = await client.operator.ReplayDead(pb.ReplayDeadRequest(id=delivery))
            assert done.replayed == 1
            assert (await client.wait_for(delivery, "sent")).attempts == 2
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await client.operator.ReplayDead(pb.ReplayDeadRequest(id=delivery))
            assert told(raised.value)[0] == "NOT_FOUND"
    assert len(mailbox.mails) == 1
    assert mailbox.mails[0].get_content().startswith("123456 is your")


async def test_an_email_goes_over_starttls_with_a_login(
    notification_database: Clone, pki: Pki, tmp_path: Path
) -> None:
    tls, trusted = localhost_tls(tmp_path)
    with smtp_server(tls) as mailbox:
        settings = by_smtp(
            mailbox, smtp_security="starttls", smtp_ca=trusted, smtp_username="me", smtp_password="pw"
        )
        async with notifying(notification_database, pki, **settings) as client:
            await client.wait_for(await client.deliver(address()), "sent")
    assert mailbox.logins == [b"me/pw"]


@pytest.mark.parametrize("offers", [True, False], ids=["bad_certificate", "no_starttls"])
async def test_no_email_goes_to_a_server_that_cannot_prove_who_it_is(
    notification_database: Clone, pki: Pki, tmp_path: Path, offers: bool
) -> None:
    tls, _ = localhost_tls(tmp_path)
    with smtp_server(tls if offers else None) as mailbox:
        settings = by_smtp(mailbox, smtp_security="starttls", max_attempts=1)
        async with notifying(notification_database, pki, **settings) as client:
            dead = await client.wait_for(await client.deliver(address()), "dead")
    assert dead.failure == "smtp connection"
    assert (mailbox.mails, mailbox.logins) == ([], [])


async def test_an_sms_is_posted_in_the_gateways_form_with_the_same_key_at_every_try(
    notification_database: Clone, pki: Pki
) -> None:
    async with sms_server() as gateway:
        gateway.statuses.extend([503, 429, 500])
        async with notifying(notification_database, pki, **by_http(gateway)) as client:
            delivery = await client.deliver(NUMBER, language="vi")
            done = await client.wait_for(delivery, "sent")
    assert done.attempts == 4
    assert len(gateway.requests) == 4
    for headers, form in gateway.requests:
        assert headers["line"] == "POST /2010-04-01/Accounts/AC1/Messages.json HTTP/1.1"
        assert headers["content-type"] == "application/x-www-form-urlencoded"
        assert headers["authorization"] == "Basic " + base64.b64encode(b"AC1:a token").decode()
        assert headers["idempotency-key"] == delivery
        assert (form["To"], form["From"]) == (NUMBER, "Sampan")
        assert form["Body"].startswith("123456 là mã đăng nhập Sampan")


@pytest.mark.parametrize("status", [400, 401, 404, 302])
async def test_an_sms_refused_for_good_is_dead_at_once(
    notification_database: Clone, pki: Pki, status: int
) -> None:
    async with sms_server() as gateway:
        gateway.statuses.append(status)
        async with notifying(notification_database, pki, **by_http(gateway)) as client:
            dead = await client.wait_for(await client.deliver(NUMBER), "dead")
    assert (dead.attempts, dead.failure, len(gateway.requests)) == (1, f"http {status}", 1)


async def test_too_many_tries_end_and_a_replay_of_all_gives_another_round(
    notification_database: Clone, pki: Pki
) -> None:
    async with sms_server() as gateway:
        gateway.statuses.extend([500] * 8)
        async with notifying(notification_database, pki, **by_http(gateway, max_attempts=3)) as client:
            ids = [await client.deliver(NUMBER) for _ in range(2)]
            dead = [await client.wait_for(one, "dead") for one in ids]
            assert [one.attempts for one in dead] == [3, 3]
            assert len(gateway.requests) == 6
            done = await client.operator.ReplayDead(pb.ReplayDeadRequest(all=True))
            assert done.replayed == 2
            assert sum([(await client.wait_for(one, "sent")).attempts for one in ids]) == 6 + 4
            done = await client.operator.ReplayDead(pb.ReplayDeadRequest(all=True))
            assert done.replayed == 0


async def test_a_provider_that_is_away_harms_nobody_and_is_found_when_it_comes(
    notification_database: Clone, owner: asyncpg.Connection, pki: Pki
) -> None:
    port = free_port()
    async with AsyncExitStack() as later:
        async with sms_server() as elsewhere:
            settings = by_http(elsewhere, http_sms_url=f"http://127.0.0.1:{port}", max_attempts=100)
        client = await later.enter_async_context(notifying(notification_database, pki, **settings))
        delivery = await client.deliver(NUMBER)

        async def failed() -> bool:
            return await owner.fetchval("SELECT failure FROM deliveries") == "http connection"

        await until(failed)
        assert await client.serving()
        gateway = await later.enter_async_context(sms_server(port))
        await client.wait_for(delivery, "sent")
        assert len(gateway.requests) == 1


async def test_a_provider_that_says_nothing_is_given_up_and_asked_again(
    notification_database: Clone, owner: asyncpg.Connection, pki: Pki
) -> None:
    async with sms_server() as gateway:
        gateway.open.clear()
        async with notifying(notification_database, pki, **by_http(gateway, provider_timeout=1)) as client:
            delivery = await client.deliver(NUMBER)

            async def timed_out() -> bool:
                return await owner.fetchval("SELECT failure FROM deliveries") == "timeout"

            await until(timed_out)
            gateway.open.set()
            assert (await client.wait_for(delivery, "sent")).attempts >= 2


async def test_a_code_that_has_expired_is_not_sent_any_more(
    notification_database: Clone, owner: asyncpg.Connection, pki: Pki
) -> None:
    async with sms_server() as gateway:
        settings = by_http(gateway, retry_first_seconds=3600, retry_ceiling_seconds=3600)
        gateway.statuses.append(503)
        async with notifying(notification_database, pki, **settings) as client:
            delivery = await client.deliver(NUMBER)

            async def failed() -> bool:
                return await owner.fetchval("SELECT failure FROM deliveries") == "http 503"

            await until(failed)
            await owner.execute("UPDATE deliveries SET due_at = now(), expires_at = now()")
            assert (await client.wait_for(delivery, "dead")).failure == "expired"
            done = await client.operator.ReplayDead(pb.ReplayDeadRequest(all=True))
            assert done.replayed == 0
    assert len(gateway.requests) == 1


async def test_several_workers_share_the_work_without_sending_anything_twice(
    notification_database: Clone, pki: Pki
) -> None:
    async with sms_server() as gateway, AsyncExitStack() as opened:
        settings = by_http(gateway, concurrency=3)
        clients = [
            await opened.enter_async_context(notifying(notification_database, pki, **settings))
            for _ in range(3)
        ]
        ids = await asyncio.gather(*(clients[number % 3].deliver(NUMBER) for number in range(24)))
        for one in ids:
            await clients[0].wait_for(one, "sent")
    assert sorted(headers["idempotency-key"] for headers, _ in gateway.requests) == sorted(ids)


async def test_what_is_being_sent_when_the_process_is_told_to_stop_ends_well(
    notification_database: Clone, owner: asyncpg.Connection, pki: Pki
) -> None:
    async with sms_server() as gateway:
        gateway.open.clear()
        app = await notification_app(notification_database, pki, **by_http(gateway, drain_seconds=10))
        async with AsyncExitStack() as running:
            there = await running.enter_async_context(serving(app))
            async with client_of(there, pki) as client:
                await client.deliver(NUMBER)

            async def asked() -> bool:
                return len(gateway.requests) == 1

            await until(asked)
            stopping = asyncio.ensure_future(running.pop_all().aclose())
            gateway.open.set()
            await stopping
    assert await owner.fetchval("SELECT status FROM deliveries") == "sent"


async def test_a_process_killed_between_sending_and_writing_it_down_is_mended_by_another(
    notification_database: Clone, owner: asyncpg.Connection, pki: Pki, tmp_path: Path
) -> None:
    async with sms_server() as gateway:
        gateway.open.clear()
        settings = by_http(gateway, lease_seconds=3, provider_timeout=2.5)
        async with own_process(notification_database, pki, tmp_path / "log", **settings) as running:
            delivery = await running.client.deliver(NUMBER)

            async def asked() -> bool:
                return len(gateway.requests) == 1

            await until(asked)
            await running.kill()
        assert await owner.fetchval("SELECT status FROM deliveries") == "pending"
        gateway.open.set()
        async with notifying(notification_database, pki, **settings) as client:
            assert (await client.wait_for(delivery, "sent")).attempts == 2
    assert [headers["idempotency-key"] for headers, _ in gateway.requests] == [delivery, delivery]


async def test_a_worker_whose_lease_has_ended_cannot_write_over_the_next_ones_word(
    notification_database: Clone, owner: asyncpg.Connection, pki: Pki
) -> None:
    # With the outbox alone no worker runs here that could take it.
    async with notifying(notification_database, pki) as client:
        await client.deliver(NUMBER)
    await owner.execute("UPDATE deliveries SET status = 'pending', attempts = 0, settled_at = NULL")
    database = Database(notification_database.runtime_url, pool=1, timeout=5, name="tests")
    try:
        claims = []
        for _ in range(2):
            await owner.execute("UPDATE deliveries SET due_at = now()")
            async with database.transaction() as connection:
                claims += await repository.claim(connection, [Channel.SMS], limit=5, lease=60)
        late, present = claims
        async with database.transaction() as connection:
            assert await repository.claim(connection, [Channel.SMS], limit=5, lease=60) == []
            assert not await repository.settle(connection, late, Status.DEAD, failure="late")
            assert await repository.settle(connection, present, Status.SENT)
    finally:
        await database.close()
    assert await owner.fetchval("SELECT status || failure FROM deliveries") == "sent"


async def test_a_letter_that_cannot_be_opened_is_dead_and_the_rest_goes_on(
    notification_database: Clone, owner: asyncpg.Connection, pki: Pki
) -> None:
    async with sms_server() as gateway:
        gateway.statuses.append(503)
        settings = by_http(gateway, retry_first_seconds=3600, retry_ceiling_seconds=3600)
        async with notifying(notification_database, pki, **settings) as client:
            broken = await client.deliver(NUMBER)

            async def failed() -> bool:
                return await owner.fetchval("SELECT failure FROM deliveries") == "http 503"

            await until(failed)
            await owner.execute("UPDATE deliveries SET due_at = now(), sealed = set_byte(sealed, 20, 0)")
            await client.wait_for(await client.deliver(NUMBER), "sent")

            async def dead() -> bool:
                query = "SELECT status || ' ' || failure FROM deliveries WHERE id = $1"
                return await owner.fetchval(query, uuid.UUID(broken)) == "dead unreadable"

            await until(dead)


async def test_a_letter_whose_every_try_ended_with_its_lease_is_given_up(
    notification_database: Clone, owner: asyncpg.Connection, pki: Pki
) -> None:
    async with notifying(notification_database, pki) as client:
        delivery = await client.deliver(NUMBER)
    await owner.execute(
        "UPDATE deliveries SET status = 'pending', attempts = attempts_allowed, settled_at = NULL"
    )
    async with sms_server() as gateway:
        async with notifying(notification_database, pki, **by_http(gateway)) as client:
            assert (await client.wait_for(delivery, "dead")).failure == "abandoned"
        assert gateway.requests == []


async def test_address_code_and_text_are_in_no_table_no_log_and_no_error(
    notification_database: Clone, owner: asyncpg.Connection, pki: Pki, tmp_path: Path
) -> None:
    phone, mail, code = "+66899999123", "canary@canary.example", "CANARY77"
    given = {"parameters": {"code": code, "minutes": "5", "device": "canarydevice"}}
    errors = ""
    with smtp_server() as mailbox:
        mailbox.rcpt.extend(["450 {address} wait", "550 {address} unknown"])
        async with sms_server() as gateway:
            gateway.statuses.extend([500, 400])
            settings = by_http(gateway) | by_smtp(mailbox) | {"max_attempts": 3}
            async with own_process(notification_database, pki, tmp_path / "log", **settings) as running:
                client = running.client
                for to in (phone, mail):
                    await client.wait_for(await client.deliver(to, **given), "dead")
                    await client.wait_for(await client.deliver(to, "new_device", **given), "sent")
                request_id = str(uuid.uuid4())
                await client.deliver(phone, request_id=request_id, **given)
                for call in (
                    client.deliver(mail, request_id=request_id, **given),
                    client.deliver(phone + "canary", **given),
                    client.deliver(phone, parameters={"code": code + code + code}),
                    client.deliver(phone, template=code, **given),
                ):
                    with pytest.raises(grpc.aio.AioRpcError) as raised:
                        await call
                    errors += str(raised.value) + repr(raised.value.trailing_metadata())
                lying = await dump(owner)
            log = running.log.read_text()
    assert events(running.log, "call")
    assert events(running.log, "delivery.failed")
    assert "RECIPIENT_INVALID" in errors
    for canary in (phone, phone[1:], mail, "canary", code, "canarydevice"):
        assert canary.encode() not in lying
        assert canary not in log
        assert canary not in errors
