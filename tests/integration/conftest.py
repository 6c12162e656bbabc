"""Fixtures of a service with its real database, in the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest

from sampan.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.chat import Talkers, talkers
from tests.support.databases import Clone
from tests.support.mailbox import Mailbox
from tests.support.mesh import Minter, channel_as


@pytest.fixture
async def identity_channel(identity: tuple[App, str], pki: Pki) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to identity, as the edge has one."""
    async with channel_as("edge", identity[1], "identity", pki) as channel:
        yield channel


@pytest.fixture
def stub(identity_channel: grpc.aio.Channel) -> IdentityServiceStub:
    """Identity, as the edge calls it."""
    return IdentityServiceStub(identity_channel)


@pytest.fixture
async def owner(identity_database: Clone) -> AsyncIterator[asyncpg.Connection]:
    """Identity's database, as the role that owns its tables."""
    connection = await asyncpg.connect(identity_database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def mailbox(notification: tuple[App, str], pki: Pki) -> AsyncIterator[Mailbox]:
    """What people were sent by this module's notification."""
    async with channel_as("operator", notification[1], "notification", pki) as channel:
        yield Mailbox(channel)


@pytest.fixture
async def people(messaging: tuple[App, str], identity_database: Clone, pki: Pki) -> AsyncIterator[Talkers]:
    """People who talk over this module's messaging, called as the edge and as other services do."""
    app, address = messaging
    async with (
        channel_as("edge", address, "messaging", pki) as edge,
        channel_as("workspace", address, "messaging", pki) as workspace,
        talkers(edge, workspace, Minter.of(app), identity_database.owner_url) as found,
    ):
        yield found


@pytest.fixture
async def messaging_owner(messaging_database: Clone) -> AsyncIterator[asyncpg.Connection]:
    """Messaging's database, as the role that owns its tables."""
    connection = await asyncpg.connect(messaging_database.owner_url)
    yield connection
    await connection.close()
