"""proto <-> domain for sampan.presence.v1.PresenceInternalService."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from sampan.presence.v1 import presence_internal_service_pb2 as pb
from services.mesh.call import Call
from services.presence.leases import Device
from services.presence.service import PresenceService


class PresenceInternalServicer:
    """Implements sampan.presence.v1.PresenceInternalService."""

    def __init__(self, service: PresenceService) -> None:
        self._service = service

    async def RenewLeases(self, request: pb.RenewLeasesRequest, _: Call) -> pb.RenewLeasesResponse:
        limited = await self._service.renew(request.process, _devices(request.leases), request.seconds)
        return pb.RenewLeasesResponse(
            limited=[
                pb.Limited(user_id=str(user), last_seen_hidden=one.last_seen_hidden, invisible=one.invisible)
                for user, one in limited.items()
            ]
        )

    async def EndLeases(self, request: pb.EndLeasesRequest, _: Call) -> pb.EndLeasesResponse:
        await self._service.end(request.process, _devices(request.leases))
        return pb.EndLeasesResponse()


def _devices(leases: Iterable[pb.Lease]) -> list[Device]:
    return [Device(UUID(lease.user_id), lease.device_id) for lease in leases]
