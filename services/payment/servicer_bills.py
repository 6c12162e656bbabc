"""proto <-> domain: bills."""

from __future__ import annotations

from uuid import UUID

from sampan.payment.v1 import bill_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.payment.bills import BillService
from services.payment.domain_bills import Bill, BillStatus


class BillMethods:
    """Methods of sampan.payment.v1.PaymentService."""

    def __init__(self, bills: BillService, idempotency: Idempotency) -> None:
        self._bills = bills
        self._key = idempotency.key

    async def CreateBill(self, request: pb.CreateBillRequest, call: Call) -> pb.Bill:
        key = await self._key(request, call)
        made = await self._bills.create(_user(call), request.amount, request.description, key)
        call.created(f"/v1/payment/transactions/{made.id}")
        return _bill(made)

    async def GetBill(self, request: pb.GetBillRequest, call: Call) -> pb.Bill:
        return _bill(await self._bills.get(_user(call), UUID(request.id)))

    async def ListBills(self, request: pb.ListBillsRequest, call: Call) -> pb.ListBillsResponse:
        status = BillStatus(request.status) if request.status else None
        found = await self._bills.list(_user(call), status, request.limit, request.page_token)
        return pb.ListBillsResponse(
            transactions=[_bill(one) for one in found.items],
            next_page_token=found.next_page_token,
            has_more=found.has_more,
        )

    async def PayBills(self, request: pb.PayBillsRequest, call: Call) -> pb.PayBillsResponse:
        key = await self._key(request, call)
        return pb.PayBillsResponse(transactions_paid=await self._bills.pay(_user(call), key))


class BillTotalsMethods:
    """Methods of sampan.payment.v1.PaymentInternalService."""

    def __init__(self, bills: BillService) -> None:
        self._bills = bills

    async def ListBillTotals(self, request: pb.ListBillTotalsRequest, _: Call) -> pb.ListBillTotalsResponse:
        after = UUID(request.after_user_id) if request.after_user_id else None
        found = await self._bills.totals(after, request.limit)
        return pb.ListBillTotalsResponse(
            totals=[
                pb.BillTotals(
                    user_id=str(one.user_id),
                    events=one.events,
                    transactions=one.transactions,
                    amount=one.amount,
                    paid=one.paid,
                )
                for one in found
            ]
        )


def _user(call: Call) -> UUID:
    return UUID(call.require_user().id)


def _bill(bill: Bill) -> pb.Bill:
    shown = pb.Bill(
        id=str(bill.id),
        user_id=str(bill.user_id),
        amount=bill.amount,
        currency=bill.currency,
        description=bill.description,
        status=bill.status.value,
    )
    shown.created_at.FromDatetime(bill.created_at)
    if bill.paid_at is not None:
        shown.paid_at.FromDatetime(bill.paid_at)
    return shown
