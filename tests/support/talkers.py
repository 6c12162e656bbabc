"""People who write and follow through all live doors while parts are killed, and what must hold of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx

from sampan.messaging.v1 import frame_pb2
from tests.support.clients import Person
from tests.support.live_doors import DOORS
from tests.support.live_lines import Edge, Line
from tests.support.waiting import until

# What a send may come to while a part is away.
_AGAIN = frozenset(("UNAVAILABLE", "OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED", "OVERLOADED", "INTERNAL"))
_PAUSE = 0.05
_PATIENCE = 5.0
SETTLED_WITHIN = 60.0


class Sender:
    """Somebody who writes one message after the other, each until it is acknowledged."""

    def __init__(self, edge: Edge, person: Person, line: Line, dialogs: Sequence[str]) -> None:
        self._edge = edge
        self._person = person
        self.line = line
        self.dialogs = dialogs
        # Dialog, its client's id and its number, for each that was acknowledged.
        self.acknowledged: list[tuple[str, str, int]] = []
        self.broken: list[str] = []

    async def run(self) -> None:
        """For ever, until cancelled between two tries."""
        for dialog_id in itertools.cycle(self.dialogs):
            await self.send(dialog_id, secrets.token_hex(8))
            await asyncio.sleep(_PAUSE)

    async def send(self, dialog_id: str, own_id: str) -> None:
        """Writes one message; asks again under the same id until it knows."""
        while True:
            reason, seq = await (self._speak if self.line.speaks else self._post)(dialog_id, own_id)
            if not reason:
                self.acknowledged.append((dialog_id, own_id, seq))
                return
            if reason not in _AGAIN:
                self.broken.append(reason)
                return
            await asyncio.sleep(_PAUSE)

    async def _speak(self, dialog_id: str, own_id: str) -> tuple[str, int]:
        frame = frame_pb2.ConnectRequest(ref=own_id)
        frame.send.dialog_id, frame.send.client_message_id = dialog_id, own_id
        frame.send.content.text = own_id
        try:
            reply = await self.line.ask(frame, _PATIENCE)
        except (ConnectionError, TimeoutError):
            return "UNAVAILABLE", 0
        return reply.reason, reply.message.seq

    async def _post(self, dialog_id: str, own_id: str) -> tuple[str, int]:
        body = {"content": {"text": own_id}, "client_message_id": own_id}
        path = f"/v1/dialogs/{dialog_id}/messages"
        try:
            reply = await self._edge.clients.rest.call("POST", path, body, token=self._person.token)
        except httpx.TransportError:
            return "UNAVAILABLE", 0
        return reply.reason, int(reply.body.get("seq", 0))


class Company:
    """Some people in direct dialogs and groups, each at a door, all writing."""

    def __init__(self, edge: Edge, senders: Sequence[Sender]) -> None:
        self.edge = edge
        self.senders = senders

    @classmethod
    @asynccontextmanager
    async def gathered(cls, edge: Edge, count: int) -> AsyncIterator[Company]:
        """People who listen: one group of all, groups of five, and direct dialogs of neighbours."""
        people = [await edge.clients.register() for _ in range(count)]
        lines = [
            DOORS[number % len(DOORS)](edge, person.token, stays=True) for number, person in enumerate(people)
        ]
        try:
            for line in lines:
                line.open()
            for line in lines:
                await line.live()
            rooms = [range(count), *(range(at, at + 5) for at in range(0, count, 5))]
            rooms += [range(at, at + 2) for at in range(0, count, 2)]
            member_of: list[list[str]] = [[] for _ in people]
            for room in rooms:
                first, *others = [edge.as_talker(people[one]) for one in room]
                made = await (first.group(*others) if len(room) > 2 else first.direct(*others))
                for one in room:
                    member_of[one].append(made.id)
            made_of = zip(people, lines, member_of, strict=True)
            yield cls(edge, [Sender(edge, person, line, dialogs) for person, line, dialogs in made_of])
        finally:
            for line in lines:
                await line.close()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """All write while the block runs; what is under way at its end is finished or given up."""
        tasks = [asyncio.create_task(sender.run()) for sender in self.senders]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    @property
    def count(self) -> int:
        """How many messages were acknowledged."""
        return sum(len(sender.acknowledged) for sender in self.senders)

    async def more(self, messages: int) -> None:
        """Waits until so many more were acknowledged, by whoever."""
        enough = self.count + messages

        async def there() -> bool:
            return self.count >= enough

        await until(there, True, within=SETTLED_WITHIN)

    async def agrees(self) -> None:
        """Everybody has 1..n of each dialog, the same for all, and each acknowledged message once."""
        by_dialog: dict[str, list[Sender]] = {}
        for sender in self.senders:
            assert sender.broken == []
            for dialog_id in sender.dialogs:
                by_dialog.setdefault(dialog_id, []).append(sender)
        for dialog_id, members in by_dialog.items():
            await self._agree(dialog_id, members)

    async def _agree(self, dialog_id: str, members: Sequence[Sender]) -> None:
        path = f"/v1/dialogs/{dialog_id}"
        token = members[0].line.token
        last = int((await self.edge.clients.rest.call("GET", path, token=token)).body["last_seq"])
        first = members[0].line
        for sender in members:
            line = sender.line
            assert line._task is not None
            await line.has(dialog_id, last, within=SETTLED_WITHIN)
            assert line.seqs(dialog_id) == list(range(1, last + 1)), line.door
            assert line.events(dialog_id) == first.events(dialog_id), line.door
        written = [event.message_created.client_message_id for event in first.events(dialog_id)[1:]]
        assert len(written) == len(set(written))
        told = {
            one_id: seq
            for sender in members
            for where, one_id, seq in sender.acknowledged
            if where == dialog_id
        }
        assert {one_id: written.index(one_id) + 2 for one_id in told} == told
