"""Clients of all doors of one stack, and people who signed in through them."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx

from tests.support import http as plain
from tests.support.doors import GrpcDoor, GrpcWebDoor, Reply, RestDoor
from tests.support.stack import Stack


@dataclass(frozen=True)
class Person:
    """Somebody who registered."""

    username: str
    password: str
    token: str
    refresh_token: str
    id: str


def loopback() -> str:
    """A loopback address that no other test uses: limits by address are real in tests, too."""
    return f"127.{random.randint(1, 250)}.{random.randint(0, 250)}.{random.randint(2, 250)}"


@dataclass(frozen=True)
class Clients:
    """One client for each door."""

    http: httpx.AsyncClient
    rest: RestDoor
    grpc: GrpcDoor
    grpc_web: GrpcWebDoor

    @classmethod
    @asynccontextmanager
    async def of(cls, stack: Stack) -> AsyncIterator[Clients]:
        """Opens them; closed at the end of the block."""
        transport = plain.transport(local_address=loopback(), retries=1)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{stack.port}")
        try:
            async with plain.client(transport=transport, base_url=stack.url, timeout=20) as http:
                yield cls(http, RestDoor(http), GrpcDoor(channel), GrpcWebDoor(http))
        finally:
            await channel.close(None)

    async def try_register(self, **more: Any) -> Person | Reply:
        """Registers somebody new; what was answered when that did not go well."""
        body = {"username": "u" + secrets.token_hex(8), "password": secrets.token_urlsafe(12), **more}
        reply = await self.rest.call("POST", "/v1/auth/register", body)
        if reply.code != 201:
            return reply
        return Person(
            body["username"],
            body["password"],
            reply.body["access_token"],
            reply.body["refresh_token"],
            reply.body["id"],
        )

    async def register(self, **more: Any) -> Person:
        """Registers somebody new."""
        person = await self.try_register(**more)
        assert isinstance(person, Person), person
        return person
