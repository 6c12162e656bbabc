"""Who listens in this process, and what each of them is told: the middle of live delivery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol
from uuid import UUID

from services.messaging.live import frames, states
from services.messaging.live.dialog import PIECE_BYTES, Dialog, Person
from services.messaging.live.frames import MEMBER_ADDED, MEMBER_REMOVED, Head
from services.messaging.live.gaps import Gaps
from services.messaging.live.history import History
from services.messaging.live.resume import Tokens
from services.messaging.live.roster import Roster
from services.messaging.live.stream import Session
from services.messaging.live.wire import Kind, News
from services.messaging.publishing import LiveEvent
from services.messaging.repository_live import Membership, Memberships

_MEMBERS = frozenset((MEMBER_ADDED, MEMBER_REMOVED))
# What was heard of dialogs that nobody here is in, while somebody was asking: at most so many.
_MOST_HEARD = 10_000


class Others(Protocol):
    """The other processes of messaging."""

    def tell(self, events: Sequence[LiveEvent]) -> None:
        """Hands events on. Never waits, never raises."""
        ...

    def tell_news(self, news: News) -> None:
        """Hands news on. Never waits, never raises."""
        ...


class Entrance(Protocol):
    """Finds out in which dialogs people are, when there is reason to ask."""

    def look_again(self, person: Person) -> None:
        """Has a person's dialogs read again soon. Never waits."""
        ...


class Hub:
    """Dialogs and people of this process. It implements `publishing.Publisher`.

    All runs on one event loop and waits for nothing; what must be read is read by tasks of its own.
    """

    def __init__(
        self,
        *,
        tokens: Tokens,
        history: History,
        others: Others,
        roster: Roster,
        queue_bytes: int,
        user_streams: int,
    ) -> None:
        self.tokens = tokens
        self.history = history
        self.queue_bytes = queue_bytes
        self.user_streams = user_streams
        self.entrance: Entrance | None = None
        # Who wants to know of all events, also of dialogs in which nobody here is.
        self.noted: Callable[[Sequence[LiveEvent]], None] = lambda _: None
        self._others = others
        self._roster = roster
        self.dialogs: dict[UUID, Dialog] = {}
        self.people: dict[UUID, Person] = {}
        # Dialogs that had events lately.
        self.active: dict[Dialog, float] = {}
        # Numbers heard of dialogs that were not known, while somebody was asking for theirs.
        self._heard: dict[UUID, int] = {}
        self._asking = 0
        self._gaps = Gaps(self, history)
        self.tick = 0
        # How often a slow reader's queue was dropped.
        self.dropped = 0
        self._ahead = 0.0

    async def run(self) -> None:
        """Counts seconds, until cancelled."""
        while True:
            await asyncio.sleep(1)
            self.tick += 1
            self._roster.beat(self.tick)

    # Time: that of the database, about.

    def now(self) -> float:
        """Seconds since the epoch by the database's clock, as far as it was learned."""
        return time.time() + self._ahead

    def learn_time(self, database_now: float) -> None:
        """Sets the clock by the database's."""
        self._ahead = database_now - time.time()

    # What the writing side of this process tells.

    def events(self, events: Sequence[LiveEvent]) -> None:
        """Events that were committed here."""
        self._others.tell(events)
        self.hear_all(events)

    def receipt(self, dialog_id: UUID, user_id: UUID, read_seq: int, unread: int, *, to_all: bool) -> None:
        """Somebody has read."""
        self._news(News(Kind.READ, dialog_id, (user_id,), read_seq, unread, to_all))

    def joined(self, dialog_id: UUID, user_ids: Sequence[UUID]) -> None:
        """People are in a dialog from now on."""
        self._news(News(Kind.JOINED, dialog_id, tuple(user_ids)))

    def left(self, dialog_id: UUID, user_ids: Sequence[UUID], seq: int) -> None:
        """People are in a dialog no longer."""
        self._news(News(Kind.LEFT, dialog_id, tuple(user_ids), seq))

    def typing(self, dialog_id: UUID, user_id: UUID) -> None:
        """Somebody is writing."""
        self._news(News(Kind.TYPING, dialog_id, (user_id,)))

    def _news(self, news: News) -> None:
        self._others.tell_news(news)
        self.hear_news(news)

    # What is heard, from here or from another process.

    def hear(self, events: Iterable[LiveEvent]) -> None:
        """Tells events to those who are in their dialogs, in the order of their numbers, each once."""
        fresh: dict[Dialog, list[bytes]] = {}
        for event in events:
            dialog = self.dialogs.get(event.dialog_id)
            if dialog is None:
                if self._asking and len(self._heard) < _MOST_HEARD:
                    self._heard[event.dialog_id] = max(event.seq, self._heard.get(event.dialog_id, 0))
                continue
            waiting = fresh.get(dialog)
            if waiting is None:
                waiting = fresh[dialog] = []
            if event.seq == dialog.head + len(waiting) + 1 and not dialog.early:
                waiting.append(event.data)
                continue
            if waiting:
                self._tell(dialog, waiting)
                waiting.clear()
            waiting.extend(dialog.take(event.seq, event.data))
        for dialog, waiting in fresh.items():
            if waiting:
                self._tell(dialog, waiting)
            self._gaps.close_soon(dialog)

    def hear_all(self, events: Sequence[LiveEvent]) -> None:
        """The same with events that just happened, here or elsewhere."""
        self.noted(events)
        self.hear(events)

    def hear_news(self, news: News) -> None:
        """Tells what is known of people."""
        match news.kind:
            case Kind.JOINED:
                for user_id in news.user_ids:
                    self._look_again(user_id)
            case Kind.LEFT:
                for user_id in news.user_ids:
                    self.part(news.dialog_id, user_id, news.seq)
            case Kind.READ:
                states.tell_reading(self.dialogs, self.people, news)
            case Kind.TYPING:
                states.tell_typing(self.dialogs, news)
            case Kind.HEAD:
                self.expect_of(news.dialog_id, news.seq)

    def _tell(self, dialog: Dialog, data: Sequence[bytes]) -> None:
        """The next events of a dialog. Who is removed by one of them gets no later one."""
        start = 0
        for at, event in enumerate(data):
            change = frames.change_of(event)
            if change in _MEMBERS:
                self._dispatch(dialog, data[start : at + 1])
                start = at + 1
                user_id = frames.member_of(event)
                if change == MEMBER_REMOVED:
                    self._remove(dialog, user_id, dialog.head)
                else:
                    self._look_again(user_id, dialog)
        self._dispatch(dialog, data[start:])
        if dialog.leaving:
            for user_id, seq in tuple(dialog.leaving.items()):
                if seq <= dialog.head:
                    self._remove(dialog, user_id, seq)
        dialog.active_at = self.now()
        self.active[dialog] = time.monotonic()

    def _dispatch(self, dialog: Dialog, data: Sequence[bytes]) -> None:
        fields: list[bytes] = []
        size = 0
        for event in data:
            field = frames.event_field(event)
            fields.append(field)
            size += len(field)
            if size > PIECE_BYTES:
                self._dispatch_piece(dialog, fields)
                fields, size = [], 0
        if fields:
            self._dispatch_piece(dialog, fields)

    def _dispatch_piece(self, dialog: Dialog, fields: list[bytes]) -> None:
        dialog.told(fields)
        piece = frames.events(dialog, dialog.head - len(fields) + 1, fields)
        piece.entry = dialog.entry
        for person in dialog.people:
            for session in person.sessions:
                behind = session.behind
                if behind is None or dialog not in behind:
                    session.push(piece)
                else:
                    session.wake()

    # Gaps.

    def expect(self, dialog: Dialog, seq: int) -> None:
        """An event of that number exists: it is read from the log unless it comes by itself."""
        dialog.target = max(dialog.target, seq)
        self._gaps.close_soon(dialog)

    def expect_of(self, dialog_id: UUID, seq: int) -> None:
        """The same, if anybody here is in the dialog."""
        if dialog := self.dialogs.get(dialog_id):
            self.expect(dialog, seq)

    def is_known(self, dialog: Dialog) -> bool:
        """Whether anybody here is in it."""
        return self.dialogs.get(dialog.id) is dialog

    def skip(self, dialog: Dialog, first: int) -> None:
        """Events before `first` are gone by age, untold."""
        dialog.jump(first - 1)
        told = frames.truncated(dialog.id, first)
        for person in dialog.people:
            for session in person.sessions:
                if session.behind is None or dialog not in session.behind:
                    session.push(told)

    # People in dialogs.

    def enter(self, user_id: UUID) -> Person:
        """The person, who is here as long as they have a stream or one is being opened."""
        if user_id not in self.people:
            self.people[user_id] = Person(user_id)
        return self.people[user_id]

    def asks(self, person: Person, *, begins: bool) -> None:
        """Somebody begins or ends to read a person's dialogs."""
        person.asking += 1 if begins else -1
        self._asking += 1 if begins else -1
        person.calm()
        if not self._asking:
            self._heard.clear()

    def apply(self, person: Person, found: Memberships, floors: dict[UUID, int]) -> list[Dialog]:
        """Takes in which dialogs a person is in; returns those in which, it seems, they are no longer.

        `floors` says after which event new dialogs begin for them, where `joined_seq` does not.
        """
        self.learn_time(found.at)
        person.checked_at = found.at
        seen = set()
        for one in found.dialogs:
            if person.parted.get(one.dialog_id, 0) > one.last_seq:
                continue
            dialog = self._known(one)
            seen.add(dialog)
            if dialog in person.dialogs:
                self._heard_of_reading(person, dialog, one)
                continue
            person.dialogs[dialog] = one.read_seq
            dialog.people[person] = None
            cursor = max(floors.get(one.dialog_id, one.joined_seq - 1), one.joined_seq - 1)
            self._tell_of_entering(person, dialog, one, cursor)
        return [dialog for dialog in person.dialogs if dialog not in seen]

    def _known(self, one: Membership) -> Dialog:
        dialog = self.dialogs.get(one.dialog_id)
        if dialog is None:
            dialog = Dialog(one.dialog_id, one.last_seq, small=one.is_small, active_at=one.active_at)
            self.dialogs[one.dialog_id] = dialog
            self.expect(dialog, self._heard.get(one.dialog_id, 0))
        else:
            dialog.small = one.is_small
            self.expect(dialog, one.last_seq)
        return dialog

    def _heard_of_reading(self, person: Person, dialog: Dialog, one: Membership) -> None:
        if one.read_seq > person.dialogs[dialog]:
            person.dialogs[dialog] = one.read_seq
            told = frames.receipt(dialog.id, person.id, one.read_seq, one.unread)
            for session in person.sessions:
                session.push(told)

    def _tell_of_entering(self, person: Person, dialog: Dialog, one: Membership, cursor: int) -> None:
        head = frames.heads([Head(one.dialog_id, one.last_seq, one.read_seq, one.unread)])
        if person.opening:
            person.entered[dialog] = (cursor, head)
        for session in person.sessions:
            session.enter(dialog, cursor, head)

    def part(self, dialog_id: UUID, user_id: UUID, seq: int) -> None:
        """Event `seq` of a dialog is the last for somebody: told at once, or when that event was."""
        dialog = self.dialogs.get(dialog_id)
        person = self.people.get(user_id)
        if person is None:
            return
        if dialog is None:
            self._remember_parting(person, dialog_id, seq)
        elif dialog.head >= seq:
            self._remove(dialog, user_id, seq)
        else:
            dialog.leaving[user_id] = seq
            self.expect(dialog, seq)

    def _remove(self, dialog: Dialog, user_id: UUID, seq: int) -> None:
        dialog.leaving.pop(user_id, None)
        person = self.people.get(user_id)
        if person is None:
            return
        self._remember_parting(person, dialog.id, seq)
        if dialog not in person.dialogs:
            return
        self._take_out(person, dialog)
        person.entered.pop(dialog, None)
        for session in person.sessions:
            session.leave(dialog, seq)

    def _remember_parting(self, person: Person, dialog_id: UUID, seq: int) -> None:
        if person.asking or person.opening:
            person.parted[dialog_id] = max(seq, person.parted.get(dialog_id, 0))

    def _take_out(self, person: Person, dialog: Dialog) -> None:
        person.dialogs.pop(dialog, None)
        dialog.people.pop(person, None)
        if not dialog.people:
            self.dialogs.pop(dialog.id, None)
            self.active.pop(dialog, None)
            dialog.forget()

    def _look_again(self, user_id: UUID, dialog: Dialog | None = None) -> None:
        person = self.people.get(user_id)
        if person is not None and (dialog is None or dialog not in person.dialogs) and self.entrance:
            self.entrance.look_again(person)

    # Streams.

    def add(self, session: Session) -> None:
        """Has a stream told from now on."""
        session.person.sessions = (*session.person.sessions, session)
        session.wrote = self.tick
        self._roster.add(session)

    def leave(self, session: Session) -> None:
        """Ends that. A person without streams is forgotten."""
        person = session.person
        if session in person.sessions:
            person.sessions = tuple(one for one in person.sessions if one is not session)
            self._roster.discard(session)
        self.release(person)

    def release(self, person: Person) -> None:
        """Forgets a person for whom nobody is here."""
        if person.sessions or person.opening or self.people.get(person.id) is not person:
            return
        del self.people[person.id]
        for dialog in tuple(person.dialogs):
            self._take_out(person, dialog)
