"""proto <-> domain for sampan.analytics.v1."""

from __future__ import annotations

from uuid import UUID

from sampan.analytics.v1 import analytics_service_pb2 as pb
from services.analytics.domain import Viewer
from services.analytics.service import StatisticsService
from services.mesh.call import Call

# The contract shows counts as numbers, which end here; a figure that is above stays at this.
_MOST = 2**31 - 1


class AnalyticsServicer:
    """Implements sampan.analytics.v1.AnalyticsService."""

    def __init__(self, service: StatisticsService) -> None:
        self._service = service

    async def GetStats(self, _: pb.GetStatsRequest, __: Call) -> pb.Stats:
        found = await self._service.totals()
        return pb.Stats(
            total_transactions=_count(found.figures.transactions),
            total_amount=found.figures.amount,
            total_paid_transactions=_count(found.figures.paid),
            events_processed=_count(found.figures.events),
            unique_users=_count(found.users),
        )

    async def GetUserStats(self, request: pb.GetUserStatsRequest, call: Call) -> pb.UserStats:
        user = call.require_user()
        user_id = UUID(request.id)
        found = await self._service.of_user(Viewer(UUID(user.id), "admin" in user.roles), user_id)
        return pb.UserStats(
            user_id=str(user_id),
            total_transactions=_count(found.transactions),
            total_amount=found.amount,
            total_paid_transactions=_count(found.paid),
            events_processed=_count(found.events),
        )


def _count(figure: int) -> int:
    return min(figure, _MOST)
