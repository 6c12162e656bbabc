"""Tells presence which devices are here, and people who of those they talk with has come or gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Protocol
from uuid import UUID

from google.protobuf.message import DecodeError
from structlog.typing import FilteringBoundLogger

from sampan.presence.v1 import events_pb2
from sampan.presence.v1 import presence_internal_service_pb2 as pb
from services.mesh.errors import SampanError
from services.messaging.live import frames
from services.messaging.live.dialog import Person
from services.messaging.live.hub import Hub
from services.messaging.repository_live import LiveRepository

CHANGED = "sampan.presence.changed.*"
# Name of the device of streams that did not say one; no client can say this one.
_NAMELESS = "~"
_AT_ONCE = 5000
# Who comes or goes is told within so many seconds; changes of others are gathered for as long.
_SOON = 0.1
_MOST_CHANGES = 10_000

Device = tuple[UUID, str]


class Presence(Protocol):
    """The internal methods of presence."""

    @property
    def RenewLeases(self) -> Callable[[pb.RenewLeasesRequest], Awaitable[pb.RenewLeasesResponse]]: ...  # noqa: N802

    @property
    def EndLeases(self) -> Callable[[pb.EndLeasesRequest], Awaitable[pb.EndLeasesResponse]]: ...  # noqa: N802


class Leases:
    """Renews the leases of devices that are here. Presence may be away: then nobody is told."""

    def __init__(self, presence: Presence, process: str, log: FilteringBoundLogger, *, seconds: int) -> None:
        self._presence = presence
        self._process = process
        self._log = log
        self._seconds = seconds
        self._here: set[Device] = set()
        self._came: set[Device] = set()
        self._went: set[Device] = set()
        self._something = asyncio.Event()

    def came(self, user_id: UUID, device: str) -> None:
        """A device has its first stream here."""
        found = (user_id, device)
        self._here.add(found)
        self._went.discard(found)
        self._came.add(found)
        self._something.set()

    def went(self, user_id: UUID, device: str) -> None:
        """The last stream of a device has ended here."""
        found = (user_id, device)
        self._here.discard(found)
        self._came.discard(found)
        self._went.add(found)
        self._something.set()

    async def run(self) -> None:
        """Tells at once who came or went, and all who are here three times in a lease; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._changes())
            group.create_task(self._renewals())

    async def _changes(self) -> None:
        while True:
            await self._something.wait()
            await asyncio.sleep(_SOON)
            self._something.clear()
            came, self._came = self._came, set()
            went, self._went = self._went, set()
            await self._renew(came)
            await self._end(went)

    async def _renewals(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / 3)
            await self._renew(self._here)

    async def _renew(self, devices: Iterable[Device]) -> None:
        for leases in _batches(devices):
            request = pb.RenewLeasesRequest(process=self._process, leases=leases, seconds=self._seconds)
            try:
                await self._presence.RenewLeases(request)
            except SampanError as error:
                self._log.info("live.presence_away", reason=error.reason)
                return

    async def _end(self, devices: Iterable[Device]) -> None:
        for leases in _batches(devices):
            try:
                await self._presence.EndLeases(pb.EndLeasesRequest(process=self._process, leases=leases))
            except SampanError as error:
                # They run out by themselves.
                self._log.info("live.presence_away", reason=error.reason)
                return


def _batches(devices: Iterable[Device]) -> Iterator[list[pb.Lease]]:
    found = [pb.Lease(user_id=str(user), device_id=device or _NAMELESS) for user, device in devices]
    for at in range(0, len(found), _AT_ONCE):
        yield found[at : at + _AT_ONCE]


class Comings:
    """Hears from presence who has come or gone, and tells those who share a small dialog with them."""

    def __init__(self, hub: Hub, repository: LiveRepository, log: FilteringBoundLogger) -> None:
        self._hub = hub
        self._repository = repository
        self._log = log
        self._changes: dict[UUID, frames.Piece] = {}
        self._something = asyncio.Event()

    def hear(self, data: bytes) -> None:
        """A change, as it comes over the bus."""
        try:
            change = events_pb2.PresenceChanged.FromString(data)
            user_id = UUID(change.user_id)
        except (DecodeError, ValueError):
            return
        if not self._hub.people or len(self._changes) >= _MOST_CHANGES:
            return
        last_seen = change.last_seen if change.HasField("last_seen") else None
        self._changes[user_id] = frames.presence(change.user_id, change.status, last_seen)
        self._something.set()

    async def run(self) -> None:
        """Tells, until cancelled."""
        while True:
            await self._something.wait()
            await asyncio.sleep(_SOON)
            self._something.clear()
            changes, self._changes = self._changes, {}
            try:
                shared = await self._repository.shared(list(changes))
                blocks = await self._repository.blocks(list(changes))
            except SampanError as error:
                self._log.info("live.presence_untold", reason=error.reason)
                continue
            self._tell(changes, shared, blocks)

    def _tell(
        self,
        changes: dict[UUID, frames.Piece],
        shared: Sequence[tuple[UUID, UUID]],
        blocks: set[tuple[UUID, UUID]],
    ) -> None:
        told: set[tuple[UUID, Person]] = set()
        for user_id, dialog_id in shared:
            dialog = self._hub.dialogs.get(dialog_id)
            for person in dialog.people if dialog is not None else ():
                if person.id != user_id and (user_id, person.id) not in blocks:
                    told.add((user_id, person))
        for user_id, person in told:
            for session in person.sessions:
                session.push(changes[user_id])
