"""People with wallets, as a service of payments sees them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from google.protobuf.message import Message

from sampan.payment.v1 import hold_pb2, top_up_pb2, transaction_pb2, wallet_pb2
from sampan.payment.v1 import payment_service_pb2 as pb
from sampan.payment.v1.payment_internal_service_pb2_grpc import PaymentInternalServiceStub
from sampan.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.databases import Clone
from tests.support.mesh import Minter, channel_as
from tests.support.money import fund


@dataclass(frozen=True)
class Payer:
    """Somebody who is signed in."""

    stub: PaymentServiceStub
    id: str
    token: str

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What each of their calls carries."""
        return [("authorization", f"Bearer {self.token}")]

    async def wallet(self, currency: str = "THB", request_id: str = "") -> wallet_pb2.Wallet:
        """Makes a wallet."""
        request = pb.CreateWalletRequest(currency=currency, request_id=request_id)
        made: wallet_pb2.Wallet = await self.stub.CreateWallet(request, metadata=self.metadata)
        return made

    async def wallets(self) -> list[wallet_pb2.Wallet]:
        """All of them."""
        answer = await self.stub.ListWallets(pb.ListWalletsRequest(), metadata=self.metadata)
        return list(answer.wallets)

    async def get(self, wallet_id: str) -> wallet_pb2.Wallet:
        """One of them."""
        found: wallet_pb2.Wallet = await self.stub.GetWallet(
            pb.GetWalletRequest(id=wallet_id), metadata=self.metadata
        )
        return found

    async def send(
        self, wallet: wallet_pb2.Wallet, recipient: str, amount: int, request_id: str = "", **fields: str
    ) -> transaction_pb2.Transaction:
        """Sends money from a wallet."""
        given = {"currency": wallet.currency, "wallet_id": wallet.id, **fields}
        request = pb.SendMoneyRequest(recipient_id=recipient, amount=amount, request_id=request_id, **given)
        sent: transaction_pb2.Transaction = await self.stub.SendMoney(request, metadata=self.metadata)
        return sent

    async def ask(self, method: str, request: Message) -> Any:
        """Calls a method as this person."""
        return await getattr(self.stub, method)(request, metadata=self.metadata)

    async def hold(
        self, wallet: wallet_pb2.Wallet, recipient: str, amount: int, **fields: Any
    ) -> hold_pb2.Hold:
        """Reserves money of a wallet."""
        given = {"currency": wallet.currency, "wallet_id": wallet.id, **fields}
        request = pb.CreateHoldRequest(recipient_id=recipient, amount=amount, **given)
        made: hold_pb2.Hold = await self.ask("CreateHold", request)
        return made

    async def capture(self, hold_id: str, amount: int = 0, **fields: Any) -> pb.CaptureHoldResponse:
        """Pays what is held, or a part."""
        request = pb.CaptureHoldRequest(hold_id=hold_id, amount=amount, **fields)
        done: pb.CaptureHoldResponse = await self.ask("CaptureHold", request)
        return done

    async def top_up(self, wallet: wallet_pb2.Wallet, amount: int = 100, **fields: Any) -> top_up_pb2.TopUp:
        """Asks for money by PromptPay."""
        given = {"currency": wallet.currency, "wallet_id": wallet.id, "method": "promptpay", **fields}
        request = top_up_pb2.CreateTopUpRequest(amount=amount, **given)
        made: top_up_pb2.TopUp = await self.ask("CreateTopUp", request)
        return made

    async def void(self, hold_id: str) -> hold_pb2.Hold:
        """Lets go of what is held."""
        done: pb.VoidHoldResponse = await self.ask("VoidHold", pb.VoidHoldRequest(hold_id=hold_id))
        return done.hold

    async def refund(
        self, transaction_id: str, amount: int = 0, **fields: Any
    ) -> transaction_pb2.Transaction:
        """Gives back what was paid, or a part."""
        request = pb.CreateRefundRequest(transaction_id=transaction_id, amount=amount, **fields)
        made: transaction_pb2.Transaction = await self.ask("CreateRefund", request)
        return made

    async def transaction(self, transaction_id: str) -> transaction_pb2.Transaction:
        """One, with its audit trail."""
        found: transaction_pb2.Transaction = await self.ask(
            "GetTransaction", pb.GetTransactionRequest(id=transaction_id)
        )
        return found

    async def transactions(self, **fields: Any) -> pb.ListTransactionsResponse:
        """A page of them."""
        page: pb.ListTransactionsResponse = await self.ask(
            "ListTransactions", pb.ListTransactionsRequest(**fields)
        )
        return page


@dataclass(frozen=True)
class Payers:
    """Makes people up.

    `internal` is payment as identity calls it, `operating` as the operator, `settling` as commerce.
    """

    stub: PaymentServiceStub
    internal: PaymentInternalServiceStub
    operating: PaymentInternalServiceStub
    settling: PaymentInternalServiceStub
    minter: Minter
    owner: asyncpg.Connection
    database: Clone

    async def rich(self, amount: int = 100_000, currency: str = "THB") -> tuple[Payer, wallet_pb2.Wallet]:
        """A new person with so much in a wallet."""
        one = self.new()
        wallet = await one.wallet(currency)
        if amount:
            await fund(self.owner, wallet.id, amount)
        return one, wallet

    def new(self) -> Payer:
        """A new person."""
        user_id = str(uuid.uuid4())
        return Payer(self.stub, user_id, self.minter.token(user_id))


@asynccontextmanager
async def payers(app: App, address: str, database: Clone, pki: Pki) -> AsyncIterator[Payers]:
    """People of a payment that trusts a Minter."""
    owner = await asyncpg.connect(database.owner_url)
    async with (
        channel_as("edge", address, "payment", pki) as edge,
        channel_as("identity", address, "payment", pki) as identity,
        channel_as("operator", address, "payment", pki) as operator,
        channel_as("commerce", address, "payment", pki) as commerce,
    ):
        try:
            yield Payers(
                PaymentServiceStub(edge),
                PaymentInternalServiceStub(identity),
                PaymentInternalServiceStub(operator),
                PaymentInternalServiceStub(commerce),
                Minter.of(app),
                owner,
                database,
            )
        finally:
            await owner.close()
