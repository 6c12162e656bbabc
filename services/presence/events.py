"""What presence says on the bus, to those who listen just then: core NATS, not JetStream."""

from __future__ import annotations

import hashlib
from uuid import UUID

from sampan.presence.v1 import events_pb2
from services.mesh.bus import BUS_ERRORS, Bus
from services.mesh.errors import Unavailable
from services.presence.domain import Preferences, Presence

CHANGED = "sampan.presence.changed"
PREFERENCES = "sampan.presence.preferences"


def bucket(user_id: UUID) -> str:
    """One of 256, by a hash of the person: two hex digits."""
    return hashlib.blake2b(user_id.bytes, digest_size=1).hexdigest()


def changed(presence: Presence) -> bytes:
    """A serialized PresenceChanged."""
    event = events_pb2.PresenceChanged(user_id=str(presence.user_id), status=presence.status.value)
    if presence.last_seen is not None:
        event.last_seen.FromDatetime(presence.last_seen)
    return event.SerializeToString()


class Voice:
    """Says it. Both methods raise Unavailable when the server is away."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    @property
    def is_heard(self) -> bool:
        """Whether the server is there."""
        return self._bus.is_connected

    async def changed(self, presences: list[Presence]) -> None:
        """Says who has come or gone; returns when the server has it."""
        await self._say([(f"{CHANGED}.{bucket(one.user_id)}", changed(one)) for one in presences])

    async def preferences(self, user_id: UUID, preferences: Preferences) -> None:
        """Says what somebody hides from now on, for those who must not show them others."""
        event = events_pb2.PreferencesChanged(
            user_id=str(user_id),
            last_seen_hidden=preferences.last_seen_hidden,
            invisible=preferences.invisible,
        )
        await self._say([(f"{PREFERENCES}.{bucket(user_id)}", event.SerializeToString())])

    async def _say(self, said: list[tuple[str, bytes]]) -> None:
        if not said:
            return
        if not self.is_heard:
            raise Unavailable
        try:
            for subject, payload in said:
                await self._bus.say(subject, payload)
            await self._bus.flush()
        except BUS_ERRORS as error:
            raise Unavailable from error
