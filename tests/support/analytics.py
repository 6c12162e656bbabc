"""Analytics behind a bus of a test's own, and payment's bills that it is told of."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from sampan.analytics.v1 import analytics_service_pb2 as pb
from sampan.analytics.v1.analytics_service_pb2_grpc import AnalyticsServiceStub
from sampan.payment.v1 import bill_pb2
from sampan.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from services.mesh.database import Database
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support.bus import NatsServer, nats_server
from tests.support.databases import Clone, analytics_app, payment_app
from tests.support.mesh import Minter, channel_as, serving

QUICK: Mapping[str, Any] = {
    "rate_limit_scale": 10_000,
    "relay_poll_seconds": 0.05,
    "event_ack_seconds": 1,
    "event_retry_first_seconds": 0.02,
    "event_retry_ceiling_seconds": 0.2,
}


@dataclass
class Figures:
    """What is shown to one person: all of it, or their own."""

    stub: Any
    minter: Minter

    async def of_all(self) -> tuple[int, int, int, int, int]:
        """Bills, what they come to, paid ones, events, people."""
        metadata = [("authorization", f"Bearer {self.minter.token()}")]
        found = await self.stub.GetStats(pb.GetStatsRequest(), metadata=metadata)
        return (
            found.total_transactions,
            found.total_amount,
            found.total_paid_transactions,
            found.events_processed,
            found.unique_users,
        )

    async def of(self, user_id: str, viewer: str = "", **claims: Any) -> tuple[int, int, int, int]:
        """One person's: bills, what they come to, paid ones, events."""
        token = self.minter.token(viewer or user_id, **claims)
        metadata = [("authorization", f"Bearer {token}")]
        found = await self.stub.GetUserStats(pb.GetUserStatsRequest(id=user_id), metadata=metadata)
        assert found.user_id == user_id
        return (
            found.total_transactions,
            found.total_amount,
            found.total_paid_transactions,
            found.events_processed,
        )


@dataclass
class Accounting:
    """Payment and analytics with a bus between them.

    `payment` and `analytics` are their tables, `operator` is the owner of those of analytics.
    """

    figures: Figures
    stub: Any
    minter: Minter
    server: NatsServer
    payment: asyncpg.Connection
    analytics: asyncpg.Connection
    operator: Database

    async def bill(self, user_id: str, *amounts: int) -> None:
        """Makes bills of a person."""
        metadata = [("authorization", f"Bearer {self.minter.token(user_id)}")]
        for amount in amounts:
            await self.stub.CreateBill(bill_pb2.CreateBillRequest(amount=amount), metadata=metadata)

    async def pay(self, user_id: str) -> None:
        """Pays a person's bills."""
        metadata = [("authorization", f"Bearer {self.minter.token(user_id)}")]
        await self.stub.PayBills(bill_pb2.PayBillsRequest(), metadata=metadata)

    async def truth(self) -> tuple[int, int, int, int, int]:
        """What payment itself has: as `Figures.of_all`."""
        row = await self.payment.fetchrow(
            "SELECT count(*), coalesce(sum(amount), 0)::bigint, count(paid_at), (SELECT "
            "coalesce(sum(version), 0)::bigint FROM bill_accounts), count(DISTINCT user_id) FROM bills"
        )
        return row[0], row[1], row[2], row[3], row[4]

    async def is_right(self) -> bool:
        """Whether analytics shows what payment has."""
        return await self.figures.of_all() == await self.truth()


@asynccontextmanager
async def accounting(
    payment_database: Clone, analytics_database: Clone, pki: Pki, folder: Path, **more: Any
) -> AsyncIterator[Accounting]:
    """Both services behind their chains. `more` are settings of analytics."""
    minter = Minter()
    async with AsyncExitStack() as closing:
        enter = closing.enter_async_context
        server = await enter(nats_server(folder))
        mesh = MeshSettings(**QUICK, peers={"identity": ["127.0.0.1:1"]})
        first = await payment_app(payment_database, pki, mesh, minter, nats_url=server.url("payment"))
        paying = await enter(serving(first, mesh))
        peers = {"identity": ["127.0.0.1:1"], "payment": [paying]}
        mesh = MeshSettings(**QUICK, peers=peers)
        settings = {"nats_url": server.url("analytics"), "rebuild_poll_seconds": 0.05, **more}
        second = await analytics_app(analytics_database, pki, mesh, minter, **settings)
        counting = await enter(serving(second, mesh))
        tables = [await asyncpg.connect(one.owner_url) for one in (payment_database, analytics_database)]
        for one in tables:
            closing.push_async_callback(one.close)
        figures = Figures(
            AnalyticsServiceStub(await enter(channel_as("edge", counting, "analytics", pki))), minter
        )
        edge = await enter(channel_as("edge", paying, "payment", pki))
        operator = Database(analytics_database.owner_url, pool=2, timeout=5, name="operator")
        closing.push_async_callback(operator.close)
        yield Accounting(figures, PaymentServiceStub(edge), minter, server, *tables, operator)


def somebody() -> str:
    """Id of somebody new."""
    return str(uuid.uuid4())
