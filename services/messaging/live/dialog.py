"""A dialog and a person as one process knows them: who listens here, and what was told last."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING
from uuid import UUID

from services.messaging.live import frames
from services.messaging.live.frames import Piece

if TYPE_CHECKING:
    from services.messaging.live.stream import Session

# Newest events that stay for who comes a little late: so many, and so many bytes.
RING_EVENTS = 1024
RING_BYTES = 256 * 1024
# A piece holds at most so many bytes and one event more.
PIECE_BYTES = 64 * 1024
# Events that came too early wait for those before them; more than this are read again later.
MOST_EARLY = 256


class Person:
    """Somebody who has streams here. `dialogs` holds up to where they have read each of them.

    While somebody asks the database for their dialogs (`asking`), it may answer with what is over by then:
    `parted` remembers from which dialogs they were removed meanwhile, and by which event. While streams are
    being opened (`opening`), `entered` has the dialogs that came meanwhile: where they begin, and a head.
    """

    __slots__ = ("asking", "checked_at", "dialogs", "entered", "id", "opening", "parted", "sessions")

    def __init__(self, user_id: UUID) -> None:
        self.id = user_id
        self.sessions: tuple[Session, ...] = ()
        self.opening = 0
        self.dialogs: dict[Dialog, int] = {}
        self.asking = 0
        self.parted: dict[UUID, int] = {}
        self.entered: dict[Dialog, tuple[int, Piece]] = {}
        # By the database's clock: when it was last read in which dialogs they are.
        self.checked_at = 0.0

    def calm(self) -> None:
        """Forgets what only those need who ask or open."""
        if not self.opening:
            self.entered.clear()
            if not self.asking:
                self.parted.clear()


class Dialog:
    """A dialog that somebody here is in. All up to `head` was told to those who listen.

    `target` is the highest number that is known to exist. What lies between is on its way or must be read.
    """

    __slots__ = (
        "active_at",
        "early",
        "entry",
        "filling",
        "head",
        "id",
        "leaving",
        "people",
        "ring",
        "ring_bytes",
        "slices",
        "small",
        "target",
    )

    def __init__(self, dialog_id: UUID, head: int, *, small: bool, active_at: float) -> None:
        self.id = dialog_id
        self.head = head
        self.target = head
        self.small = small
        # By the database's clock, about: when the newest event was.
        self.active_at = active_at
        self.entry = frames.entry(dialog_id, head)
        self.people: dict[Person, None] = {}
        self.early: dict[int, bytes] = {}
        self.leaving: dict[UUID, int] = {}
        self.filling = False
        self.ring: deque[bytes] | None = None
        self.ring_bytes = 0
        self.slices: dict[int, Piece] = {}

    def take(self, seq: int, data: bytes) -> list[bytes]:
        """Events that may be told now that this one is here. Repeats give nothing, and so does a gap."""
        expected = self.head + 1
        self.target = max(self.target, seq)
        if seq != expected:
            if seq > expected and len(self.early) < MOST_EARLY:
                self.early[seq] = data
            return []
        if not self.early:
            return [data]
        found = [data]
        while (data := self.early.pop(seq := seq + 1, b"")) != b"":
            found.append(data)
        self.early = {number: kept for number, kept in self.early.items() if number > seq}
        return found

    def told(self, fields: list[bytes]) -> None:
        """Has `event_field`s as the newest that were told."""
        self.head += len(fields)
        self.target = max(self.target, self.head)
        self.entry = frames.entry(self.id, self.head)
        self.slices.clear()
        ring = self.ring
        if ring is None:
            ring = self.ring = deque()
        ring.extend(fields)
        self.ring_bytes += sum(map(len, fields))
        while len(ring) > RING_EVENTS or (self.ring_bytes > RING_BYTES and len(ring) > 1):
            self.ring_bytes -= len(ring.popleft())

    def jump(self, head: int) -> None:
        """Goes on after `head`: what lay between is gone by age."""
        self.head = head
        self.target = max(self.target, head)
        self.entry = frames.entry(self.id, head)
        self.forget()

    def forget(self) -> None:
        """Gives the ring's memory back."""
        self.ring = None
        self.ring_bytes = 0
        self.slices.clear()

    def before(self, fields: list[bytes], first: int) -> None:
        """Keeps events that were read from the log, if they fit right before what the ring has."""
        have = len(self.ring) if self.ring is not None else 0
        if first + len(fields) != self.head - have + 1:
            return
        if self.ring is None:
            self.ring = deque()
        for field in reversed(fields):
            if len(self.ring) >= RING_EVENTS or self.ring_bytes + len(field) > RING_BYTES:
                return
            self.ring.appendleft(field)
            self.ring_bytes += len(field)

    def recent(self, after: int, until: int) -> Piece | None:
        """The next events after one, up to one; None when the ring does not reach so far back."""
        ring = self.ring
        if ring is None or after < self.head - len(ring) or until > self.head:
            return None
        found = self.slices.get(after)
        if found is not None and found.last <= until:
            return found
        start = len(ring) - (self.head - after)
        fields = fitting(islice(ring, start, start + until - after))
        piece = self.slices[after] = frames.events(self, after + 1, fields)
        return piece


def fitting(fields: Iterable[bytes]) -> list[bytes]:
    """As many from the first on as go into one piece."""
    found = []
    size = 0
    for field in fields:
        found.append(field)
        size += len(field)
        if size > PIECE_BYTES:
            break
    return found
