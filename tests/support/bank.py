"""A bank: people pay each other by chance while parts of the stack die, and somebody reads the books."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc

from sampan.payment.v1 import payment_service_pb2 as pb
from sampan.payment.v1 import transaction_pb2
from sampan.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from tests.support import money
from tests.support.clients import Clients, Person
from tests.support.errors import reason_of
from tests.support.stack import Stack

BEGINNING = 10_000
# What the auditor is told when the database is killed while it reads.
_GONE = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    TimeoutError,
)
# Another try of the same request may be answered otherwise.
AGAIN = ("UNAVAILABLE", "OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED", "OVERLOADED")


@dataclass
class Bank:
    """Customers with a wallet each. `paid` has what was acknowledged, by transaction."""

    stub: PaymentServiceStub
    url: str
    people: list[Person]
    wallets: list[str]
    chance: random.Random = field(default_factory=lambda: random.Random(_seed()))
    paid: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    refused: int = 0
    reads: int = 0

    @classmethod
    @asynccontextmanager
    async def of(cls, stack: Stack, customers: int) -> AsyncIterator[Bank]:
        """Opens wallets and puts money into them."""
        url = stack.addresses.database("payment", owner=True)
        async with (
            Clients.of(stack) as clients,
            grpc.aio.insecure_channel(f"127.0.0.1:{stack.port}") as channel,
        ):
            stub = PaymentServiceStub(channel)
            people = [await clients.register() for _ in range(customers)]
            wallets = [await _wallet(stub, person) for person in people]
            owner = await asyncpg.connect(url)
            for wallet in wallets:
                await money.fund(owner, wallet, BEGINNING)
            await owner.close()
            yield cls(stub, url, people, wallets)

    async def works(self, workers: int, transfers: int, meanwhile: asyncio.Future[Any]) -> None:
        """So many workers make so many transfers, and more until something else is done.

        Each is asked for until it is acknowledged or refused.
        """
        left = transfers

        async def work() -> None:
            nonlocal left
            while left > 0 or not meanwhile.done():
                left -= 1
                await self._pay()

        await asyncio.gather(*(work() for _ in range(workers)))

    async def has_done(self, transfers: int) -> None:
        """Until so many are acknowledged or refused."""
        while len(self.paid) + self.refused < transfers:
            await asyncio.sleep(0.05)

    async def _pay(self) -> None:
        payer, payee = self.chance.sample(range(len(self.people)), 2)
        amount = self.chance.randint(1, 2_000)
        request = pb.SendMoneyRequest(
            wallet_id=self.wallets[payer],
            recipient_id=self.people[payee].id,
            amount=amount,
            currency="THB",
            request_id=str(uuid.uuid4()),
        )
        answer = await self._acknowledged(request, self.people[payer].token)
        if answer is None:
            self.refused += 1
            return
        assert answer.id not in self.paid
        self.paid[answer.id] = (payer, payee, amount)

    async def _acknowledged(
        self, request: pb.SendMoneyRequest, token: str
    ) -> transaction_pb2.Transaction | None:
        """The answer, asked for until there is one; None when there was not enough money."""
        while True:
            try:
                answer: transaction_pb2.Transaction = await self.stub.SendMoney(
                    request, metadata=(("authorization", f"Bearer {token}"),), timeout=10
                )
            except grpc.aio.AioRpcError as error:
                if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                    # Also the edge's own, and the client's, which have no reason.
                    await asyncio.sleep(0.05)
                elif (reason := reason_of(error)) == "INSUFFICIENT_FUNDS":
                    return None
                else:
                    assert reason in AGAIN, error
                    await asyncio.sleep(0.05)
            else:
                return answer

    async def audits(self) -> None:
        """Reads the whole of the books again and again, until cancelled: each time they sum up."""
        while True:
            with suppress(*_GONE):
                auditor = await asyncpg.connect(self.url, timeout=5, command_timeout=20)
                try:
                    while True:
                        await self._audit(auditor)
                finally:
                    auditor.terminate()
            await asyncio.sleep(0.1)

    async def _audit(self, auditor: asyncpg.Connection) -> None:
        row = await auditor.fetchrow(
            "SELECT sum(balance) FILTER (WHERE kind = 'wallet') AS wallets, sum(balance) AS all, "
            "min(balance - held) FILTER (WHERE kind = 'wallet') AS least FROM accounts WHERE currency = 'THB'"
        )
        assert row is not None
        assert row["all"] == 0
        assert row["least"] >= 0
        assert row["wallets"] >= BEGINNING * len(self.wallets)
        assert await money.lies(auditor) == []
        self.reads += 1

    async def agrees(self) -> None:
        """What was acknowledged is in the books, once, and nothing else."""
        owner = await asyncpg.connect(self.url)
        try:
            assert await money.lies(owner) == []
            rows = await owner.fetch(
                "SELECT t.id FROM transfers t WHERE t.kind = 'send' AND t.debit_account = ANY ($1::uuid[])",
                [uuid.UUID(wallet) for wallet in self.wallets],
            )
            found = [str(row["id"]) for row in rows]
            assert sorted(found) == sorted(self.paid)
            have = [await money.balance(owner, wallet) for wallet in self.wallets]
        finally:
            await owner.close()
        wanted = [BEGINNING] * len(self.wallets)
        for payer, payee, amount in self.paid.values():
            wanted[payer] -= amount
            wanted[payee] += amount
        assert have == wanted


async def _wallet(stub: PaymentServiceStub, person: Person) -> str:
    request = pb.CreateWalletRequest(currency="THB")
    made = await stub.CreateWallet(request, metadata=(("authorization", f"Bearer {person.token}"),))
    wallet: str = made.id
    return wallet


def _seed() -> int:
    """A seed, printed so that a run can be made again."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"the bank's seed: {seed}")
    return seed
