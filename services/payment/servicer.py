"""proto <-> domain for sampan.payment.v1.PaymentService."""

from __future__ import annotations

from uuid import UUID

from sampan.payment.v1 import payment_service_pb2 as pb
from sampan.payment.v1 import transaction_pb2, wallet_pb2
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.payment.domain import Payment, Transaction, Wallet
from services.payment.sends import SendService
from services.payment.service import WalletService


class PaymentServicer:
    """Implements sampan.payment.v1.PaymentService."""

    def __init__(self, wallets: WalletService, sends: SendService, idempotency: Idempotency) -> None:
        self._wallets = wallets
        self._sends = sends
        self._idempotency = idempotency

    async def CreateWallet(self, request: pb.CreateWalletRequest, call: Call) -> wallet_pb2.Wallet:
        key = await self._idempotency.key(request, call)
        made = await self._wallets.create(user_of(call), request.currency, key)
        call.created(f"/v1/wallets/{made.id}")
        return _wallet(made)

    async def ListWallets(self, request: pb.ListWalletsRequest, call: Call) -> pb.ListWalletsResponse:
        found = await self._wallets.list(user_of(call))
        return pb.ListWalletsResponse(wallets=[_wallet(one) for one in found])

    async def GetWallet(self, request: pb.GetWalletRequest, call: Call) -> wallet_pb2.Wallet:
        return _wallet(await self._wallets.get(user_of(call), UUID(request.id)))

    async def SendMoney(self, request: pb.SendMoneyRequest, call: Call) -> transaction_pb2.Transaction:
        payment = Payment(
            sender=user_of(call),
            wallet_id=UUID(request.wallet_id),
            recipient=UUID(request.recipient_id),
            amount=request.amount,
            currency=request.currency,
            description=request.description,
        )
        sent = await self._sends.send(payment, request.request_id)
        call.created(f"/v1/transactions/{sent.id}")
        return shown(sent)


def user_of(call: Call) -> UUID:
    """Who calls."""
    return UUID(call.require_user().id)


def shown(transaction: Transaction) -> transaction_pb2.Transaction:
    """A transaction as its side sees it."""
    made = transaction_pb2.Transaction(
        id=str(transaction.id),
        kind=transaction.kind.value,
        status="completed",
        wallet_id=str(transaction.wallet_id),
        direction=transaction.direction.value,
        sender_id=text_of(transaction.sender),
        recipient_id=text_of(transaction.recipient),
        amount=transaction.amount,
        currency=transaction.currency,
        fee=transaction.fee,
        balance_after=transaction.balance_after,
        description=transaction.description,
        refers_to=text_of(transaction.refers_to),
    )
    made.created_at.FromDatetime(transaction.created_at)
    return made


def text_of(found: UUID | None) -> str:
    """An id, or the empty string."""
    return "" if found is None else str(found)


def _wallet(wallet: Wallet) -> wallet_pb2.Wallet:
    shown = wallet_pb2.Wallet(
        id=str(wallet.id),
        currency=wallet.currency,
        balance=wallet.balance,
        held=wallet.held,
        available=wallet.available,
        limits=wallet_pb2.WalletLimits(
            kyc_tier=wallet.kyc_tier,
            daily=wallet.daily_limit,
            spent_today=wallet.spent_today,
            left_today=wallet.left_today,
            time_zone=wallet.time_zone,
        ),
    )
    shown.created_at.FromDatetime(wallet.created_at)
    return shown
