"""Payment with a sandbox bank that a test plays itself, by a clock that it moves."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
from google.api.httpbody_pb2 import HttpBody

from sampan.payment.v1 import top_up_pb2 as pb
from services.mesh.revocation import nothing_revoked
from services.mesh.settings import MeshSettings
from services.payment.app import build
from services.payment.providers.journal import Journal
from services.payment.providers.provider import Event, Notice
from services.payment.providers.sandbox import Callback
from services.payment.providers.signing import Signer
from services.payment.settings import PaymentSettings
from services.stack.pki import Pki
from tests.support import databases
from tests.support.mesh import Minter, serving, settings_of
from tests.support.money import lies
from tests.support.payment import Payer, Payers, payers

SECRET = bytes(range(32))


@dataclass
class Moved:
    """A clock: the real time, and what a test adds."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def now(self) -> datetime:
        """As a datetime."""
        return datetime.fromtimestamp(self(), tz=UTC)


@dataclass(frozen=True)
class Till:
    """People, the bank, and the books as their owner sees them."""

    people: Payers
    journal: Journal
    clock: Moved
    signer: Signer = field(default_factory=lambda: Signer(SECRET))

    @property
    def owner(self) -> asyncpg.Connection:
        """The database as its owner."""
        return self.people.owner

    async def asked(
        self, who: Payer, amount: int = 10_000, method: str = "promptpay", currency: str = "THB", **more: Any
    ) -> pb.TopUp:
        """A top-up of somebody who has a wallet, or gets one."""
        known = [one for one in await who.wallets() if one.currency == currency]
        wallet = known[0] if known else await who.wallet(currency)
        request = pb.CreateTopUpRequest(
            **{
                "wallet_id": wallet.id,
                "amount": amount,
                "currency": currency,
                "method": method,
                **more,
            }
        )
        made: pb.TopUp = await who.stub.CreateTopUp(request, metadata=who.metadata)
        return made

    async def seen(self, who: Payer, top_up_id: str) -> pb.TopUp:
        """A top-up as it is now."""
        found: pb.TopUp = await who.stub.GetTopUp(pb.GetTopUpRequest(id=top_up_id), metadata=who.metadata)
        return found

    def notice(self, of: pb.TopUp, event: Event = Event.COMPLETED, **changed: Any) -> Notice:
        """What the bank says of a payment for a top-up."""
        said = Notice(
            event=event,
            payment_id=str(uuid.uuid4()),
            method=of.method,
            reference=of.reference,
            amount=of.amount,
            currency=of.currency,
            at=self.clock.now(),
        )
        return replace(said, **changed)

    async def tell(self, notice: Notice, provider: str = "sandbox") -> pb.ReceiveCallbackResponse:
        """Sends a callback, signed now."""
        body = Callback.of(notice).model_dump_json().encode()
        return await self.send(body, self.signer.headers(body, int(self.clock())), provider)

    async def send(
        self, body: bytes, headers: dict[str, str], provider: str = "sandbox"
    ) -> pb.ReceiveCallbackResponse:
        """Sends any callback."""
        answer: pb.ReceiveCallbackResponse = await self.people.stub.ReceiveCallback(
            pb.ReceiveCallbackRequest(
                provider=provider, body=HttpBody(content_type="application/json", data=body)
            ),
            metadata=list(headers.items()),
        )
        return answer

    async def books(self) -> tuple[Any, ...]:
        """All balances, how many transfers and payments there are. Fails when these do not agree."""
        accounts = await self.owner.fetch("SELECT id, currency, balance, held FROM accounts ORDER BY id")
        assert await lies(self.owner) == []
        counts = await self.owner.fetchrow(
            "SELECT (SELECT count(*) FROM transfers), (SELECT count(*) FROM provider_payments)"
        )
        return (*(tuple(row) for row in accounts), tuple(counts or ()))

    async def held_for_review(self, currency: str = "THB") -> int:
        """Money in the accounts for review."""
        found: int = await self.owner.fetchval(
            "SELECT sum(balance)::bigint FROM accounts WHERE kind = 'review' AND currency = $1", currency
        )
        return found

    async def balance(self, who: Payer, currency: str = "THB") -> int:
        """What is in somebody's wallet."""
        return next(one.balance for one in await who.wallets() if one.currency == currency)

    async def paying(self) -> tuple[Payer, pb.TopUp]:
        """Somebody with a top-up that a bank has begun to pay; its payment is known as `begun`."""
        who = self.people.new()
        made = await self.asked(who)
        await self.tell(self.notice(made, Event.STARTED, payment_id=f"begun-{made.id}"))
        return who, made


@asynccontextmanager
async def till(database: databases.Clone, pki: Pki, folder: Path, **more: Any) -> AsyncIterator[Till]:
    """Payment on a clone, with a bank. Its sweeper looks 50 times a second; `more` are settings."""
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": ["127.0.0.1:1"]})
    clock, minter = Moved(), Minter()
    quick: dict[str, Any] = {
        "sandbox_secret": SECRET.hex(),
        "sweep_seconds": 0.02,
        "sweep_idle_seconds": 0.02,
        "inquiry_seconds": 0.05,
    }
    settings = PaymentSettings(
        **settings_of("payment", pki),
        database_url=database.runtime_url,
        master_key=database.master_key,
        sandbox_journal=folder / "bank",
        **(quick | more),
    )
    app = replace(await build(mesh, settings, clock), keys=minter, revocations=nothing_revoked)
    async with serving(app, mesh) as address, payers(app, address, database, pki) as people:
        yield Till(people, Journal(folder / "bank"), clock)
