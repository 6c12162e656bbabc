"""proto <-> domain for sampan.presence.v1.PresenceService."""

from __future__ import annotations

from uuid import UUID

from sampan.presence.v1 import presence_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.presence.domain import Changes, Preferences, Presence, Status
from services.presence.service import PreferencesService, PresenceService


class PresenceServicer:
    """Implements sampan.presence.v1.PresenceService."""

    def __init__(
        self, service: PresenceService, preferences: PreferencesService, idempotency: Idempotency
    ) -> None:
        self._service = service
        self._preferences = preferences
        self._key = idempotency.key

    async def ListPresence(self, request: pb.ListPresenceRequest, call: Call) -> pb.ListPresenceResponse:
        found = await self._service.of(_user(call), [UUID(one) for one in request.user_ids])
        return pb.ListPresenceResponse(presences=[_presence(one) for one in found])

    async def SetPresence(self, request: pb.SetPresenceRequest, call: Call) -> pb.Presence:
        key = await self._key(request, call)
        status = Status(request.status)
        return _presence(await self._service.set_status(_user(call), status, request.device_id, key))

    async def GetPreferences(self, _: pb.GetPreferencesRequest, call: Call) -> pb.Preferences:
        return _preferences(await self._preferences.get(_user(call)))

    async def UpdatePreferences(self, request: pb.UpdatePreferencesRequest, call: Call) -> pb.Preferences:
        changes = Changes(
            last_seen_hidden=request.last_seen_hidden if request.HasField("last_seen_hidden") else None,
            invisible=request.invisible if request.HasField("invisible") else None,
        )
        key = await self._key(request, call)
        return _preferences(await self._preferences.update(_user(call), changes, key))


def _user(call: Call) -> UUID:
    return UUID(call.require_user().id)


def _presence(presence: Presence) -> pb.Presence:
    shown = pb.Presence(user_id=str(presence.user_id), status=presence.status.value)
    if presence.last_seen is not None:
        shown.last_seen.FromDatetime(presence.last_seen)
    return shown


def _preferences(preferences: Preferences) -> pb.Preferences:
    return pb.Preferences(last_seen_hidden=preferences.last_seen_hidden, invisible=preferences.invisible)
