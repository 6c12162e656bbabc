"""proto <-> domain for sampan.payment.v1.PaymentService: looking back."""

from __future__ import annotations

from uuid import UUID

from google.api.httpbody_pb2 import HttpBody

from sampan.payment.v1 import payment_service_pb2 as pb
from sampan.payment.v1 import transaction_pb2
from services.mesh.call import Call
from services.payment import servicer_shapes as shapes
from services.payment.reading import Filter, ReadingService
from services.payment.servicer_shapes import id_of, moment_of, user_of


class ReadingMethods:
    """What moved, its audit trail, statements."""

    def __init__(self, reading: ReadingService) -> None:
        self._reading = reading

    async def ListTransactions(
        self, request: pb.ListTransactionsRequest, call: Call
    ) -> pb.ListTransactionsResponse:
        which = Filter(
            wallet_id=id_of(request.wallet_id),
            kind=request.kind,
            since=moment_of(request, "from_time"),
            until=moment_of(request, "to_time"),
        )
        page = await self._reading.list(user_of(call), which, request.limit, request.page_token)
        return pb.ListTransactionsResponse(
            transactions=[shapes.transaction(one) for one in page.items],
            next_page_token=page.next_page_token,
            has_more=page.has_more,
        )

    async def GetTransaction(
        self, request: pb.GetTransactionRequest, call: Call
    ) -> transaction_pb2.Transaction:
        return shapes.transaction(await self._reading.get(user_of(call), UUID(request.id)))

    async def GetStatement(self, request: pb.GetStatementRequest, call: Call) -> HttpBody:
        since, until = moment_of(request, "from_time"), moment_of(request, "to_time")
        made = await self._reading.statement(user_of(call), UUID(request.wallet_id), since, until)
        return HttpBody(content_type="text/csv; charset=utf-8", data=made)
