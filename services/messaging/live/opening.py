"""Opens streams: finds out where a device was, in which dialogs the person is, and what was missed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from uuid import UUID

from services.mesh.call import User
from services.mesh.errors import SampanError, Unavailable
from services.mesh.group_read import GroupRead
from services.messaging.errors import (
    Draining,
    ResumeTokenAhead,
    ResumeTokenInvalid,
    SessionEnded,
    TooManyStreams,
)
from services.messaging.live import frames
from services.messaging.live.dialog import Dialog, Person
from services.messaging.live.frames import Head, Piece
from services.messaging.live.hub import Hub
from services.messaging.live.resume import Position, unpacked
from services.messaging.live.stream import MARGIN, Session
from services.messaging.repository_live import LiveRepository, Membership, Memberships

_RETRY = 0.5
# Dialogs whose members' receipts are told at a resume, the most active ones.
_WITH_RECEIPTS = 100
# What PostgreSQL's clock may be rounded by on its way here and back, in seconds.
_ROUNDING = 0.00001


class Opening:
    """Opens streams and keeps the dialogs of connected people right."""

    def __init__(self, hub: Hub, repository: LiveRepository) -> None:
        self._hub = hub
        self._repository = repository
        self._memberships = GroupRead(repository.memberships, most=200)
        self._looking: set[Person] = set()
        self._again: set[Person] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False
        # Whether a session has ended; the process that serves says so.
        self.is_revoked: Callable[[User], bool] = lambda _: False

    async def open(self, user: User, resume: str, device_id: str) -> Session:
        """A stream that begins where a token says, or else where the device was, or else now.

        Raises TooManyStreams, ResumeTokenInvalid, ResumeTokenAhead, Draining or Unavailable.
        """
        hub = self._hub
        if self.draining:
            raise Draining
        person = hub.enter(UUID(user.id))
        if len(person.sessions) + person.opening >= hub.user_streams:
            raise TooManyStreams
        person.opening += 1
        try:
            session = Session(hub, person, device_id, user.session_id, user.expires)
            await self._begin(session, await self._position(person.id, resume, device_id))
            if self.is_revoked(user):
                raise SessionEnded
            hub.add(session)
            return session
        finally:
            person.opening -= 1
            person.calm()
            hub.release(person)

    async def _position(self, user_id: UUID, resume: str, device_id: str) -> Position | None:
        tokens, now = self._hub.tokens, time.time()
        if resume:
            return tokens.read(user_id, resume, now)
        kept = await self._repository.device(user_id, device_id) if device_id else None
        if kept is None:
            return None
        try:
            return tokens.read(user_id, unpacked(kept), now)
        except ResumeTokenInvalid:
            # Too old, or from before the key was changed: the same as a device that is not known.
            return None

    async def _begin(self, session: Session, position: Position | None) -> None:
        person = session.person
        # Person and stream are known to the hub from here on; what comes meanwhile is found by numbers.
        found = await self.read(person)
        floors: dict[UUID, int] = {}
        parted: dict[tuple[UUID, UUID], int] = {}
        told: list[tuple[UUID, UUID, int]] = []
        if position is not None:
            floors = await self._floors(position, found)
            here = {one.dialog_id for one in found.dialogs}
            gone = [(person.id, dialog_id) for dialog_id in position.cursors if dialog_id not in here]
            parted = await self._repository.parted(gone) if gone else {}
            told = await self._receipts(person, position, found)
        self._start(session, position, found, floors, parted, told)

    async def _floors(self, position: Position, found: Memberships) -> dict[UUID, int]:
        """Where the device stands in dialogs that its token does not list, but that had events since."""
        wanted = [
            (one.dialog_id, max(position.cold, one.joined_at - _ROUNDING))
            for one in found.dialogs
            if one.dialog_id not in position.cursors and one.active_at >= position.cold
        ]
        return await self._repository.floors(wanted) if wanted else {}

    async def _receipts(
        self, person: Person, position: Position, found: Memberships
    ) -> list[tuple[UUID, UUID, int]]:
        lively = [one for one in found.dialogs if one.is_small and one.active_at >= position.cold]
        lively.sort(key=lambda one: -one.active_at)
        wanted = [one.dialog_id for one in lively[:_WITH_RECEIPTS]]
        return await self._repository.receipts(wanted, person.id) if wanted else []

    def _start(
        self,
        session: Session,
        position: Position | None,
        found: Memberships,
        floors: dict[UUID, int],
        parted: dict[tuple[UUID, UUID], int],
        told: list[tuple[UUID, UUID, int]],
    ) -> None:
        """Waits for nothing, so that what is true at its begin is true at its end."""
        hub, person = self._hub, session.person
        cold = int(found.at) - MARGIN
        cursors: dict[Dialog, int] = {}
        for one in sorted(found.dialogs, key=lambda one: one.active_at):
            cursor = _cursor(one, position, floors)
            dialog = hub.dialogs.get(one.dialog_id)
            if dialog is None or dialog not in person.dialogs:
                # Removed while this was being found out.
                _ends(session, cursors, one.dialog_id, cursor, person.parted.get(one.dialog_id, 0), hub)
            elif one.active_at >= cold or cursor != dialog.head:
                cursors[dialog] = cursor
        for (_, dialog_id), seq in parted.items():
            _ends(session, cursors, dialog_id, position.cursors[dialog_id] if position else seq, seq, hub)
        here = {one.dialog_id for one in found.dialogs}
        session.begin(position.stamp if position else 0, cold, cursors, _first(found, told))
        for dialog, (cursor, head) in person.entered.items():
            if dialog.id not in here:
                session.enter(dialog, cursor, head)

    # Dialogs of people who are connected.

    async def read(self, person: Person) -> Memberships:
        """Reads in which dialogs a person is, and sees to it that all streams know. Raises Unavailable."""
        hub = self._hub
        hub.asks(person, begins=True)
        try:
            found = await self._memberships.get(person.id)
            if found is None:
                raise Unavailable
            floors = await self._joined_floors(person, found.dialogs)
            gone = hub.apply(person, found, floors)
            if gone:
                await self._part([(person, dialog) for dialog in gone])
        finally:
            hub.asks(person, begins=False)
        return found

    def look_again(self, person: Person) -> None:
        """Has a person's dialogs read again soon. Never waits."""
        if person in self._looking:
            self._again.add(person)
            return
        self._looking.add(person)
        task = asyncio.get_running_loop().create_task(self._look(person), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, person: Person) -> None:
        try:
            while self._hub.people.get(person.id) is person:
                self._again.discard(person)
                try:
                    await self.read(person)
                except SampanError:
                    await asyncio.sleep(_RETRY)
                    continue
                if person not in self._again:
                    return
        finally:
            self._looking.discard(person)
            self._again.discard(person)

    async def _joined_floors(self, person: Person, dialogs: Iterable[Membership]) -> dict[UUID, int]:
        """Where channels begin for streams that are open already: at the joining, not at the first event."""
        if not person.sessions and person.opening <= 1:
            return {}
        known = {dialog.id for dialog in person.dialogs}
        wanted = [
            (one.dialog_id, one.joined_at - _ROUNDING)
            for one in dialogs
            if one.joined_seq <= 1 < one.last_seq and one.dialog_id not in known
        ]
        return await self._repository.floors(wanted) if wanted else {}

    async def _part(self, pairs: Sequence[tuple[Person, Dialog]]) -> None:
        found = await self._repository.parted([(person.id, dialog.id) for person, dialog in pairs])
        for (user_id, dialog_id), seq in found.items():
            self._hub.part(dialog_id, user_id, seq)


def _cursor(one: Membership, position: Position | None, floors: dict[UUID, int]) -> int:
    """After which event a stream begins in a dialog. Raises ResumeTokenAhead."""
    if position is None:
        return one.last_seq
    known = position.cursors.get(one.dialog_id)
    if known is not None:
        if known > one.last_seq:
            raise ResumeTokenAhead
        return max(known, one.joined_seq - 1)
    if one.active_at < position.cold:
        return one.last_seq
    return max(floors.get(one.dialog_id, 0), one.joined_seq - 1)


def _ends(
    session: Session, cursors: dict[Dialog, int], dialog_id: UUID, cursor: int, seq: int, hub: Hub
) -> None:
    """Has a dialog told up to the event by which one was removed, unless that was told before."""
    if cursor >= seq:
        return
    dialog = hub.dialogs.get(dialog_id) or Dialog(dialog_id, seq, small=False, active_at=hub.now())
    cursors[dialog] = cursor
    session.ending = session.ending or {}
    session.ending[dialog] = seq


def _first(found: Memberships, told: Sequence[tuple[UUID, UUID, int]]) -> list[Piece]:
    pieces = [
        frames.heads(Head(one.dialog_id, one.last_seq, one.read_seq, one.unread) for one in found.dialogs)
    ]
    if told:
        pieces.append(frames.receipts(told))
    return pieces
