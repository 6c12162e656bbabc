"""proto <-> domain for sampan.payment.v1.PaymentService: wallets, and payments from them."""

from __future__ import annotations

from uuid import UUID

from sampan.payment.v1 import payment_service_pb2 as pb
from sampan.payment.v1 import wallet_pb2
from services.mesh import ids
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.payment import encoding
from services.payment import servicer_shapes as shapes
from services.payment.domain import Payment, Wallet
from services.payment.sends import SendService
from services.payment.service import WalletService
from services.payment.servicer_shapes import user_of


class WalletMethods:
    """Wallets, and payments from them."""

    def __init__(self, wallets: WalletService, sends: SendService, idempotency: Idempotency) -> None:
        self._wallets = wallets
        self._sends = sends
        self._idempotency = idempotency

    async def CreateWallet(self, request: pb.CreateWalletRequest, call: Call) -> wallet_pb2.Wallet:
        key = await self._idempotency.key(request, call)
        answered = await self._wallets.create(user_of(call), request.currency, _answer, key)
        made = wallet_pb2.Wallet.FromString(answered)
        call.created(f"/v1/wallets/{made.id}")
        return made

    async def ListWallets(self, request: pb.ListWalletsRequest, call: Call) -> pb.ListWalletsResponse:
        found = await self._wallets.list(user_of(call))
        return pb.ListWalletsResponse(wallets=[shapes.wallet(one) for one in found])

    async def GetWallet(self, request: pb.GetWalletRequest, call: Call) -> wallet_pb2.Wallet:
        return shapes.wallet(await self._wallets.get(user_of(call), UUID(request.id)))

    async def SendMoney(self, request: pb.SendMoneyRequest, call: Call) -> bytes:
        payment = Payment(
            sender=user_of(call),
            wallet_id=ids.read(request.wallet_id),
            recipient=ids.read(request.recipient_id),
            amount=request.amount,
            currency=request.currency,
            description=request.description,
        )
        sent = await self._sends.send(payment, request.request_id)
        call.created(f"/v1/transactions/{sent.id}")
        return encoding.transaction(payment, str(payment.sender), sent)


def _answer(made: Wallet) -> bytes:
    return shapes.wallet(made).SerializeToString()
