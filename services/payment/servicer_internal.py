"""proto <-> domain for sampan.payment.v1.PaymentInternalService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid5

from sampan.payment.v1 import payment_internal_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.errors import SampanError
from services.mesh.idempotency import Idempotency
from services.payment.sends import TransferService
from services.payment.service import WalletService

# So many refusals of a stream are told one by one.
_TOLD = 1000


class PaymentInternalServicer:
    """Implements sampan.payment.v1.PaymentInternalService.

    `window` transfers of a stream are under way at once.
    """

    def __init__(
        self, wallets: WalletService, transfers: TransferService, idempotency: Idempotency, *, window: int
    ) -> None:
        self._wallets = wallets
        self._transfers = transfers
        self._idempotency = idempotency
        self._window = window

    async def SetStanding(self, request: pb.SetStandingRequest, call: Call) -> pb.SetStandingResponse:
        key = await self._idempotency.key(request, call)
        user_id, tier, version = UUID(request.user_id), request.kyc_tier, request.version
        await self._wallets.set_standing(user_id, tier, version, suspended=request.suspended, key=key)
        return pb.SetStandingResponse()

    async def CreateTransfers(
        self, request: pb.CreateTransfersRequest, call: Call
    ) -> pb.CreateTransfersResponse:
        results = await asyncio.gather(
            *(
                self._post(call.caller, one, one.request_id or _placed(request.request_id, place))
                for place, one in enumerate(request.transfers)
            )
        )
        return pb.CreateTransfersResponse(results=results)

    async def StreamTransfers(
        self, requests: AsyncIterator[pb.StreamTransfersRequest], call: Call
    ) -> pb.StreamTransfersResponse:
        answer = pb.StreamTransfersResponse()
        room = asyncio.Semaphore(self._window)

        async def post(one: pb.Transfer) -> None:
            try:
                _count(answer, one.request_id, await self._post(call.caller, one, one.request_id))
            finally:
                room.release()

        broken = None
        async with asyncio.TaskGroup() as posting:
            try:
                async for request in requests:
                    await room.acquire()
                    posting.create_task(post(request.transfer))
            except SampanError as error:
                # Not out of the group, which would end what is under way.
                broken = error
        if broken is not None:
            raise broken
        return answer

    async def _post(self, caller: str, one: pb.Transfer, request_id: str) -> pb.TransferResult:
        try:
            posted = await self._transfers.post(
                caller,
                UUID(one.wallet_id),
                UUID(one.to_wallet_id),
                one.amount,
                one.currency,
                UUID(one.refers_to) if one.refers_to else None,
                request_id,
            )
        except SampanError as error:
            return pb.TransferResult(reason=error.reason)
        return pb.TransferResult(transaction_id=str(posted.id), balance_after=posted.balance_after)


def _placed(request_id: str, place: int) -> str:
    """The id of a transfer that has none: that of its call, and where it stands in it."""
    return str(uuid5(UUID(request_id), str(place))) if request_id else ""


def _count(answer: pb.StreamTransfersResponse, request_id: str, result: pb.TransferResult) -> None:
    if not result.reason:
        answer.posted += 1
        return
    answer.refused += 1
    if len(answer.refusals) < _TOLD:
        answer.refusals.add(request_id=request_id, reason=result.reason)
