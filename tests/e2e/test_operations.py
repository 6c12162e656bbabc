"""What operators see from outside: health, services, reflection."""

from __future__ import annotations

import grpc
from google.api.httpbody_pb2 import HttpBody
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.stack.topology import SERVICES
from tests.support.clients import Clients
from tests.support.doors import GrpcDoor, RestDoor
from tests.support.stack import ROOT, Stack


async def test_health_names_every_part(rest: RestDoor) -> None:
    for path in ("/healthz", "/health"):
        reply = await rest.call("GET", path)
        assert reply.code == 200
        assert reply.body["status"] == "healthy"
        assert {"identity", "web", "postgres", "redis", "nats"} <= set(reply.body)


async def test_services_are_listed_with_version_and_status(rest: RestDoor) -> None:
    for path in ("/v1/services", "/"):
        reply = await rest.call("GET", path)
        assert reply.code == 200
        assert [service["name"] for service in reply.body["services"]] == sorted(SERVICES)
        assert {service["status"] for service in reply.body["services"]} == {"up"}
        assert all(service["version"] for service in reply.body["services"])


async def test_reflection_tells_of_public_services_and_of_no_other(stack: Stack) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stack.port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(
                file_containing_symbol="sampan.identity.v1.IdentityService"
            ),
        ]
        answers = [answer async for answer in stub.ServerReflectionInfo(iter(requests), timeout=10)]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert listed == {name for service in SERVICES.values() for name in service.public}
    assert answers[1].file_descriptor_response.file_descriptor_proto


async def test_every_part_asks_for_credentials(stack: Stack) -> None:
    import asyncpg
    import nats
    import nats.errors
    import pytest
    import redis.asyncio as redis

    ports = stack.state.ports
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://identity:wrong@127.0.0.1:{ports['postgres']}/sampan_identity")
    with pytest.raises(redis.AuthenticationError):
        await redis.Redis(port=ports["redis"]).set("a", "b")
    with pytest.raises((nats.errors.Error, OSError)):
        await nats.connect(f"nats://127.0.0.1:{ports['nats']}", allow_reconnect=False, connect_timeout=3)


async def test_the_running_role_cannot_change_the_schema(stack: Stack) -> None:
    import asyncpg
    import pytest

    connection = await asyncpg.connect(stack.addresses.database("identity"))
    try:
        for statement in (
            "DROP TABLE accounts",
            "CREATE TABLE more (id int)",
            "DELETE FROM accounts",
            "ALTER TABLE accounts ADD COLUMN more int",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_the_interface_describes_itself(stack: Stack, clients: Clients) -> None:
    answer = await clients.http.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == (ROOT / "gen" / "openapi.json").read_bytes()
    page = await clients.http.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "x-http-code" not in page.headers
    assert "/openapi.json" in page.text


async def test_the_description_is_there_over_grpc_too(grpc_door: GrpcDoor) -> None:
    reply = await grpc_door.call("/sampan.web.v1.WebService/GetOpenApi", b"", HttpBody)
    assert (reply.code, reply.body["content_type"]) == (0, "application/json")
