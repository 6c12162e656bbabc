"""Notification served for tests: in this process, or as a process of its own that can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
from google.rpc import error_details_pb2, status_pb2

from sampan.notification.v1 import notification_internal_service_pb2 as pb
from sampan.notification.v1.notification_internal_service_pb2_grpc import NotificationInternalServiceStub
from services.mesh.channels import is_serving
from services.stack.pki import Pki
from tests.support.databases import Clone, notification_app
from tests.support.mesh import channel_as, serving, settings_of
from tests.support.providers import Mailbox, SmsGateway, until
from tests.support.stack import ROOT

# Everything that takes time in production, quick.
QUICK: dict[str, Any] = {
    "poll_seconds": 0.05,
    "retry_first_seconds": 0.02,
    "retry_ceiling_seconds": 0.1,
    "sweep_seconds": 0.05,
}


def by_smtp(mailbox: Mailbox, **more: Any) -> dict[str, Any]:
    """Settings for e-mail by a server."""
    return {
        **QUICK,
        "email_provider": "smtp",
        "smtp_host": "127.0.0.1",
        "smtp_port": mailbox.port,
        "smtp_security": "none",
        "smtp_from": "no-reply@sampan.example",
        **more,
    }


def by_http(gateway: SmsGateway, **more: Any) -> dict[str, Any]:
    """Settings for SMS by a server."""
    return {
        **QUICK,
        "sms_provider": "http_sms",
        "http_sms_url": gateway.url,
        "http_sms_account": "AC1",
        "http_sms_token": "a token",
        "http_sms_from": "Sampan",
        **more,
    }


@dataclass(frozen=True)
class Client:
    """What identity and the operator may call."""

    identity: NotificationInternalServiceStub
    operator: NotificationInternalServiceStub
    channel: grpc.aio.Channel

    async def deliver(self, to: str, template: str = "code_login", **more: Any) -> str:
        """Orders a message; the channel follows from the address."""
        request: dict[str, Any] = {
            "channel": "email" if "@" in to else "sms",
            "to": to,
            "template": template,
            "parameters": {"code": "123456", "minutes": "5", "device": "Pixel 9"},
            "request_id": str(uuid.uuid4()),
        }
        return (await self.identity.Deliver(pb.DeliverRequest(**request | more))).id

    async def list(self, to: str = "", **more: Any) -> list[pb.Delivery]:
        """What was taken, newest first."""
        answer = await self.operator.ListDeliveries(pb.ListDeliveriesRequest(to=to, **more))
        return list(answer.deliveries)

    async def wait_for(self, delivery_id: str, status: str) -> pb.Delivery:
        """The delivery as soon as it has a status."""
        found: list[pb.Delivery] = []

        async def has() -> bool:
            found[:] = [one for one in await self.list(limit=100) if one.id == delivery_id]
            return bool(found) and found[0].status == status

        await until(has)
        return found[0]

    async def serving(self) -> bool:
        """Whether the service says so."""
        return await is_serving(self.channel, 2)


@asynccontextmanager
async def client_of(address: str, pki: Pki) -> AsyncIterator[Client]:
    """A client under both certificates."""
    async with (
        channel_as("identity", address, "notification", pki) as identity,
        channel_as("operator", address, "notification", pki) as operator,
    ):
        yield Client(
            NotificationInternalServiceStub(identity), NotificationInternalServiceStub(operator), operator
        )


@asynccontextmanager
async def notifying(database: Clone, pki: Pki, **settings: Any) -> AsyncIterator[Client]:
    """Notification in this process."""
    app = await notification_app(database, pki, **settings)
    async with serving(app) as address, client_of(address, pki) as client:
        yield client


@dataclass(frozen=True)
class OwnProcess:
    """Notification as a process: `kill` is kill -9; `log` is all that it wrote."""

    client: Client
    process: asyncio.subprocess.Process
    log: Path

    async def kill(self) -> None:
        """Ends it at once."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def own_process(database: Clone, pki: Pki, log: Path, **settings: Any) -> AsyncIterator[OwnProcess]:
    """Notification as the stack runs it, with every call logged."""
    given = {
        **settings_of("notification", pki),
        "database_url": database.runtime_url,
        "master_key": database.master_key,
        **settings,
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAMPAN_")}
    environment |= {f"SAMPAN_NOTIFICATION_{name.upper()}": str(value) for name, value in given.items()}
    environment |= {
        "SAMPAN_LOG_LEVEL": "debug",
        "SAMPAN_LOG_SAMPLE": "1",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.stack.process", "notification"),
            env=environment,
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    try:
        address = await _started(process, log)
        async with client_of(address, pki) as client:
            yield OwnProcess(client, process, log)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _started(process: asyncio.subprocess.Process, log: Path) -> str:
    """Its address, as its log says."""

    async def ended_or_started() -> bool:
        return process.returncode is not None or bool(events(log, "server.started"))

    await until(ended_or_started, 60)
    assert process.returncode is None, log.read_text()
    address: str = events(log, "server.started")[0]["address"]
    return address


def told(error: grpc.aio.AioRpcError) -> tuple[str, list[str]]:
    """The reason of an error, and the fields that it names."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(details).details:
        detail.Unpack(info)
        detail.Unpack(bad)
    return info.reason, [violation.field for violation in bad.field_violations]


def events(log: Path, name: str) -> list[dict[str, Any]]:
    """What a process logged under a name. Its last line may not be whole yet."""
    lines = log.read_text().rpartition("\n")[0].splitlines()
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    return [one for one in logged if one.get("event") == name]


async def dump(owner: asyncpg.Connection) -> bytes:
    """Everything in every table, as a thief of the disk would read it."""
    found = b""
    for table in await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        for row in await owner.fetch(f'SELECT * FROM "{table[0]}"'):  # noqa: S608
            for value in row.values():
                found += value if isinstance(value, bytes) else str(value).encode()
                found += b"\n"
    return found
