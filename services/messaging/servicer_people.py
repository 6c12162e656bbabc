"""proto <-> domain: blocks and reports."""

from __future__ import annotations

from uuid import UUID

from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.messaging import servicer_shapes as shapes
from services.messaging.people import PeopleService


class PeopleMethods:
    """Methods of sampan.messaging.v1.MessagingService."""

    def __init__(self, people: PeopleService, idempotency: Idempotency) -> None:
        self._people = people
        self._key = idempotency.key

    async def BlockUser(self, request: pb.BlockUserRequest, call: Call) -> pb.Block:
        key = await self._key(request, call)
        made = await self._people.block(shapes.user_of(call), UUID(request.user_id), key)
        call.created(f"/v1/blocks/{made.user_id}")
        return shapes.block(made)

    async def ListBlocks(self, request: pb.ListBlocksRequest, call: Call) -> pb.ListBlocksResponse:
        found = await self._people.blocks(shapes.user_of(call), request.limit, request.page_token)
        return pb.ListBlocksResponse(
            blocks=[shapes.block(one) for one in found.items],
            next_page_token=found.next_page_token,
            has_more=found.has_more,
        )

    async def UnblockUser(self, request: pb.UnblockUserRequest, call: Call) -> pb.UnblockUserResponse:
        key = await self._key(request, call)
        await self._people.unblock(shapes.user_of(call), UUID(request.user_id), key)
        call.answer_with(204)
        return pb.UnblockUserResponse()

    async def ReportMessage(self, request: pb.ReportMessageRequest, call: Call) -> pb.ReportMessageResponse:
        made = await self._people.report(
            shapes.user_of(call),
            shapes.where(request.id),
            request.category,
            request.comment,
            await self._key(request, call),
        )
        return pb.ReportMessageResponse(id=str(made))

    async def ListReports(self, request: pb.ListReportsRequest, _: Call) -> pb.ListReportsResponse:
        found = await self._people.reports(request.limit, request.page_token)
        return pb.ListReportsResponse(
            reports=[shapes.report(one) for one in found.items],
            next_page_token=found.next_page_token,
            has_more=found.has_more,
        )
