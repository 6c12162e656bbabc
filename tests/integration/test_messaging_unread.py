"""Whatever people do in a dialog, what is unread and who is called equal a simple model, for each of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.messaging.v1 import messaging_internal_service_pb2 as internal
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.chat import Talker, Talkers
from tests.support.mesh import channel_as

ACTIONS = st.tuples(
    st.sampled_from(["say", "say", "say", "mention", "read", "edit", "delete", "leave", "add", "notice"]),
    st.integers(0, 3),
    st.integers(0, 1000),
)


@dataclass
class Said:
    """A message of the model."""

    id: str
    seq: int
    by: str
    mentions: set[str] = field(default_factory=set)
    deleted: bool = False
    notice: bool = False


@dataclass
class Model:
    """A dialog as one would write it down."""

    said: list[Said] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)

    def unread(self, user: str) -> int:
        """Messages of others after the mark, without deleted ones."""
        return sum(one.seq > self.marks[user] and one.by != user and not one.deleted for one in self.said)

    def mentioned(self, user: str) -> int:
        """Those that call somebody."""
        return sum(
            one.seq > self.marks[user] and user in one.mentions and not one.deleted for one in self.said
        )


class Room:
    """A group, or a direct dialog of two, next to its model."""

    def __init__(self, people: Talkers, them: list[Talker], dialog_id: str, *, direct: bool) -> None:
        self.people = people
        self.them = them
        self.id = dialog_id
        self.direct = direct
        self.model = Model(marks={one.id: 0 for one in them})

    async def act(self, kind: str, who: int, pick: int) -> None:
        """Does something, if it can be done."""
        actor = self.them[who % len(self.them)]
        if kind == "add":
            if not self.direct and actor.id not in self.model.marks:
                await self.them[0].AddMember(pb.AddMemberRequest(dialog_id=self.id, user_id=actor.id))
                self.model.marks[actor.id] = self.newest()
        elif actor.id in self.model.marks:
            await getattr(self, kind)(actor, pick)

    def newest(self) -> int:
        """Number of the newest message."""
        return max((one.seq for one in self.model.said), default=0)

    async def say(self, actor: Talker, pick: int, *mentions: str) -> None:
        made = await actor.say(self.id, f"{pick}", mentions=mentions)
        called = {one for one in mentions if one in self.model.marks and one != actor.id}
        assert set(made.mentions) == called
        self.model.said.append(Said(made.id, made.seq, actor.id, called))
        self.model.marks[actor.id] = made.seq

    async def mention(self, actor: Talker, pick: int) -> None:
        await self.say(actor, pick, *(one.id for n, one in enumerate(self.them) if pick & 1 << n))

    async def notice(self, actor: Talker, pick: int) -> None:
        if self.direct:
            other = next(one for one in self.them if one.id != actor.id)
            request = internal.PostNoticeRequest(
                sender_id=actor.id,
                recipient_id=other.id,
                type="order",
                text=f"{pick}",
                client_message_id=f"n{len(self.model.said)}",
            )
            made = await self.people.internal.PostNotice(request)
            shown = await actor.GetMessage(pb.GetMessageRequest(id=made.message_id))
            self.model.said.append(Said(shown.id, shown.seq, actor.id, notice=True))

    def visible(self, pick: int) -> Said | None:
        return self.model.said[pick % len(self.model.said)] if self.model.said else None

    async def read(self, actor: Talker, pick: int) -> None:
        found = self.visible(pick)
        if found is None:
            return
        try:
            done = await actor.read(found.id)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
            return
        self.model.marks[actor.id] = max(self.model.marks[actor.id], found.seq)
        assert done.unread_count == self.model.unread(actor.id)

    async def edit(self, actor: Talker, pick: int) -> None:
        found = self.visible(pick)
        if found is None or found.by != actor.id or found.deleted or found.notice:
            return
        called = [one.id for n, one in enumerate(self.them) if pick & 1 << n]
        try:
            await actor.edit(found.id, f"edited {pick}", *called)
        except grpc.aio.AioRpcError as error:
            # Said before the author left and came back.
            assert error.code() is grpc.StatusCode.NOT_FOUND
            return
        found.mentions = {one for one in called if one in self.model.marks and one != actor.id}

    async def delete(self, actor: Talker, pick: int) -> None:
        found = self.visible(pick)
        if found is None or found.by != actor.id or found.notice:
            return
        try:
            await actor.DeleteMessage(pb.DeleteMessageRequest(id=found.id))
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
            return
        found.deleted = True

    async def leave(self, actor: Talker, _: int) -> None:
        if not self.direct and actor is not self.them[0]:
            await actor.LeaveDialog(pb.LeaveDialogRequest(dialog_id=self.id))
            del self.model.marks[actor.id]

    async def check(self) -> None:
        """What each sees is what the model says."""
        for one in self.them:
            if one.id in self.model.marks:
                seen = await one.see(self.id)
                assert (seen.read_seq, seen.unread_count, seen.mention_count) == (
                    self.model.marks[one.id],
                    self.model.unread(one.id),
                    self.model.mentioned(one.id),
                )


@settings(
    max_examples=settings().max_examples // 5,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(actions=st.lists(ACTIONS, max_size=25), direct=st.booleans())
async def test_unread_and_mentions_never_drift(
    people: Talkers,
    messaging: tuple[App, str],
    pki: Pki,
    actions: list[tuple[str, int, int]],
    direct: bool,
) -> None:
    async with channel_as("commerce", messaging[1], "messaging", pki) as commerce:
        selling = dataclasses.replace(people, internal=type(people.internal)(commerce))
        them = await people.some(2 if direct else 4)
        dialog = await (them[0].direct(them[1]) if direct else them[0].group(*them[1:]))
        room = Room(selling, them, dialog.id, direct=direct)
        for action in actions:
            await room.act(*action)
            await room.check()
