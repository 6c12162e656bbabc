"""proto <-> domain: top-ups, and what banks say of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.payment.v1 import top_up_pb2 as pb
from sampan.payment.v1 import transaction_pb2
from sampan.payment.v1.payment_service_pb2 import GetTransactionRequest
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.payment.domain import Direction, Kind
from services.payment.domain_topups import EVENT, Status, TopUp
from services.payment.errors import ProviderNotFound, TopUpNotFound, TransactionNotFound
from services.payment.providers.provider import Provider
from services.payment.qr import image
from services.payment.receiving import Receiver
from services.payment.servicer_reading import ReadingMethods
from services.payment.servicer_shapes import user_of
from services.payment.topups import TopUpService


class TopUpMethods:
    """Methods of sampan.payment.v1.PaymentService."""

    def __init__(
        self,
        top_ups: TopUpService,
        receiver: Receiver,
        providers: Mapping[str, Provider],
        idempotency: Idempotency,
    ) -> None:
        self._top_ups = top_ups
        self._receiver = receiver
        self._providers = providers
        self._key = idempotency.key

    async def CreateTopUp(self, request: pb.CreateTopUpRequest, call: Call) -> pb.TopUp:
        key = await self._key(request, call)
        wanted = (UUID(request.wallet_id), request.amount, request.currency, request.method)
        made = await self._top_ups.create(user_of(call), *wanted, key)
        call.created(f"/v1/transactions/topup/{made.id}")
        return await _whole(made)

    async def GetTopUp(self, request: pb.GetTopUpRequest, call: Call) -> pb.TopUp:
        return await _whole(await self._top_ups.get(user_of(call), UUID(request.id)))

    async def ListTopUps(self, request: pb.ListTopUpsRequest, call: Call) -> pb.ListTopUpsResponse:
        found = await self._top_ups.list(
            user_of(call),
            UUID(request.wallet_id) if request.wallet_id else None,
            Status(request.status) if request.status else None,
            request.limit,
            request.page_token,
        )
        return pb.ListTopUpsResponse(
            top_ups=[_top_up(one) for one in found.items],
            next_page_token=found.next_page_token,
            has_more=found.has_more,
        )

    async def ReceiveCallback(
        self, request: pb.ReceiveCallbackRequest, call: Call
    ) -> pb.ReceiveCallbackResponse:
        provider = self._providers.get(request.provider)
        if provider is None:
            raise ProviderNotFound
        notice = provider.read(call.text, request.body.data)
        done = await self._receiver.receive(provider.name, notice)
        return pb.ReceiveCallbackResponse(
            outcome=done.outcome.value,
            repeated_before=done.before,
            top_up_id=str(done.top_up_id) if done.top_up_id else "",
        )


class TransactionMethods:
    """GetTransaction, which knows top-ups by their ids, also before they are in the wallet."""

    def __init__(self, reading: ReadingMethods, top_ups: TopUpService) -> None:
        self._reading = reading
        self._top_ups = top_ups

    async def GetTransaction(self, request: GetTransactionRequest, call: Call) -> transaction_pb2.Transaction:
        try:
            return await self._reading.GetTransaction(request, call)
        except TransactionNotFound:
            try:
                found = await self._top_ups.get(user_of(call), UUID(request.id))
            except TopUpNotFound:
                raise TransactionNotFound from None
        return _transaction(found)


async def _whole(top_up: TopUp) -> pb.TopUp:
    """One with its history, and its picture while that is of use."""
    shown = _top_up(top_up)
    if top_up.payable:
        shown.qr_png = await asyncio.to_thread(image.png, top_up.qr_payload)
    for change in top_up.history:
        shown.history.add(status=change.status.value, at=_stamp(change.at), by=change.by.value)
    return shown


def _transaction(top_up: TopUp) -> transaction_pb2.Transaction:
    """One that is not in the wallet, or was put there by an operator."""
    shown = transaction_pb2.Transaction(
        id=str(top_up.id),
        kind=Kind.TOPUP.value,
        status=top_up.status.value,
        wallet_id=str(top_up.wallet_id),
        direction=Direction.IN.value,
        recipient_id=str(top_up.user_id),
        amount=top_up.amount,
        currency=top_up.currency,
        created_at=_stamp(top_up.created_at),
    )
    for change in top_up.history:
        shown.audit.add(
            event=EVENT + change.status.value, actor=change.by.value, created_at=_stamp(change.at)
        )
    return shown


def _top_up(top_up: TopUp) -> pb.TopUp:
    return pb.TopUp(
        id=str(top_up.id),
        wallet_id=str(top_up.wallet_id),
        amount=top_up.amount,
        currency=top_up.currency,
        method=top_up.method,
        status=top_up.status.value,
        reference=top_up.reference,
        qr_payload=top_up.qr_payload,
        expires_at=_stamp(top_up.expires_at),
        created_at=_stamp(top_up.created_at),
        settled_at=_stamp(top_up.settled_at) if top_up.settled_at else None,
        paid_amount=top_up.paid_amount,
        review_reason=top_up.review_reason,
    )


def _stamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made
