"""All streams of this process: their heartbeats, and what ends them from outside."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from services.mesh.clock import Clock
from services.mesh.errors import TokenExpired
from services.messaging.errors import Draining, SessionEnded
from services.messaging.live import frames

if TYPE_CHECKING:
    from services.messaging.live.stream import Session

# Milliseconds after which a client is asked to come back when the server stops: by chance, so that they do
# not all come at once.
_BACK = (50, 1000)


class Doorkeeper(Protocol):
    """Whoever wants to know which devices are here."""

    def came(self, user_id: UUID, device: str) -> None:
        """A device has its first stream here."""
        ...

    def went(self, user_id: UUID, device: str) -> None:
        """The last stream of a device has ended here."""
        ...


class Roster:
    """Streams by what happens to them. `leeway`: seconds that a stream may go on after its token."""

    def __init__(self, clock: Clock, doorkeeper: Doorkeeper, *, heartbeat: int, leeway: float) -> None:
        self._clock = clock
        self._doorkeeper = doorkeeper
        self._leeway = leeway
        self._slots: list[dict[Session, None]] = [{} for _ in range(heartbeat)]
        self._slot_of: dict[Session, int] = {}
        self._expiring: dict[int, dict[Session, None]] = {}
        self._by_session: dict[str, tuple[Session, ...]] = {}
        self._devices: dict[tuple[UUID, str], int] = {}
        self._next_slot = 0

    def __len__(self) -> int:
        return len(self._slot_of)

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._slot_of))

    @property
    def devices(self) -> list[tuple[UUID, str]]:
        """Those that are here: person and device."""
        return list(self._devices)

    def add(self, session: Session) -> None:
        """A new stream."""
        self._next_slot = (self._next_slot + 1) % len(self._slots)
        self._slots[self._next_slot][session] = None
        self._slot_of[session] = self._next_slot
        self._expiring.setdefault(self._ends(session), {})[session] = None
        same = self._by_session.get(session.session_id, ())
        self._by_session[session.session_id] = (*same, session)
        device = (session.person.id, session.device)
        self._devices[device] = self._devices.get(device, 0) + 1
        if self._devices[device] == 1:
            self._doorkeeper.came(*device)

    def discard(self, session: Session) -> None:
        """A stream is over."""
        slot = self._slot_of.pop(session, None)
        if slot is None:
            return
        del self._slots[slot][session]
        self._expiring.get(self._ends(session), {}).pop(session, None)
        same = tuple(one for one in self._by_session[session.session_id] if one is not session)
        if same:
            self._by_session[session.session_id] = same
        else:
            del self._by_session[session.session_id]
        device = (session.person.id, session.device)
        self._devices[device] -= 1
        if not self._devices[device]:
            del self._devices[device]
            self._doorkeeper.went(*device)

    def revoked(self, session_id: str) -> None:
        """Ends the streams of a session that was ended."""
        for session in self._by_session.get(session_id, ()):
            session.end(SessionEnded())

    def drain(self) -> None:
        """Ends all streams, so that they go on elsewhere."""
        for session in self:
            session.end(Draining(), retry_after_ms=random.randint(*_BACK), keep_rest=True)  # noqa: S311

    def beat(self, tick: int) -> None:
        """A second is over: some get a heartbeat, and those whose token has expired come to their end."""
        piece = frames.heartbeat()
        for session in tuple(self._slots[tick % len(self._slots)]):
            if session.is_idle and tick - session.wrote >= len(self._slots) - 1:
                session.push(piece)
        now = self._clock()
        for second in [second for second in self._expiring if second <= now]:
            for session in self._expiring.pop(second):
                session.end(TokenExpired())

    def _ends(self, session: Session) -> int:
        return int(session.expires + self._leeway) + 1
