"""proto <-> domain for sampan.payment.v1.PaymentService."""

from __future__ import annotations

from uuid import UUID

from sampan.payment.v1 import payment_service_pb2 as pb
from sampan.payment.v1 import wallet_pb2
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.payment.domain import Wallet
from services.payment.service import WalletService


class PaymentServicer:
    """Implements sampan.payment.v1.PaymentService."""

    def __init__(self, wallets: WalletService, idempotency: Idempotency) -> None:
        self._wallets = wallets
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


def user_of(call: Call) -> UUID:
    """Who calls."""
    return UUID(call.require_user().id)


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
