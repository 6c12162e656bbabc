"""What a client says over its stream: each frame is done, answered or refused, and may end the stream."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from sampan.messaging.v1 import frame_pb2, message_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.deadline import Deadlines
from services.mesh.errors import DeadlineExceeded, Internal, InvalidArgument, SampanError
from services.mesh.lanes import Answer
from services.mesh.policy import Method, method_at
from services.messaging.domain import Draft
from services.messaging.errors import FrameFlood, FrameInvalid
from services.messaging.live import frames
from services.messaging.live.acks import Acks
from services.messaging.live.stream import Session
from services.messaging.live.turns import Turns
from services.messaging.posting import Posted

# Frames that all streams take in one turn of the loop: about 5 ms.
_TURN = 128
# The contract says so.
MOST_BYTES = 256 * 1024
# What each frame stands for.
_METHODS = {
    frame: method_at(f"/sampan.messaging.v1.MessagingService/{method}")
    for frame, method in (
        ("send", "SendMessage"),
        ("read", "MarkRead"),
        ("typing", "SendTyping"),
        ("ack", "AckEvents"),
    )
}
# Seconds that a frame may take: what the contract gives the shortest of the methods.
_SECONDS = min(method.deadline or math.inf for method in _METHODS.values())


class Writer(Protocol):
    """The unary methods that frames stand for."""

    def draft(self, given: frame_pb2.Send, call: Call) -> Draft:
        """The message of a frame."""
        ...

    def begin(self, draft: Draft, ends: float, answer: Answer[Posted | SampanError]) -> None:
        """Has a message written; `answer` hears of errors, too, but for what is refused at once."""
        ...

    async def known(self, draft: Draft, posted: Posted) -> message_pb2.Message:
        """A message that was there already."""
        ...

    async def MarkRead(self, request: pb.MarkReadRequest, call: Call) -> pb.MarkReadResponse: ...  # noqa: N802

    async def SendTyping(self, request: pb.SendTypingRequest, call: Call) -> pb.SendTypingResponse: ...  # noqa: N802


# Counts one call of a method by a person. Raises RateLimited, or the awaitable does.
Count = Callable[[Method, Call], Awaitable[None] | None]
# Notes what nobody foresaw.
Crashed = Callable[[BaseException], None]


class Desk:
    """What all streams share that take frames: at most `most` of each are worked on at once."""

    def __init__(
        self, writer: Writer, acks: Acks, crashed: Crashed, *, most: int, frames_per_second: int
    ) -> None:
        self.writer = writer
        self.acks = acks
        self.crashed = crashed
        self.most = most
        self.frames_per_second = frames_per_second
        # Until the process says what counts calls, nothing is counted.
        self.count: Count = lambda _method, _call: None
        self.deadlines = Deadlines()
        self.turns = Turns(_TURN)


class _Sending:
    """A message on its way, and when it must be there. Group commit tells it how that ends.

    That is within the call that tells all others of a batch: a future of each cost more than all else here.
    """

    __slots__ = ("draft", "ends", "inbound", "is_done", "ref")

    def __init__(self, inbound: Inbound, ref: str, draft: Draft, ends: float) -> None:
        self.inbound = inbound
        self.ref = ref
        self.draft = draft
        self.ends = ends
        self.is_done = False

    def done(self) -> bool:
        """Whether nobody waits any longer."""
        return self.is_done

    def set_result(self, result: Posted | SampanError, /) -> None:
        """It has ended."""
        self.is_done = True
        self.inbound.sent(self, result)


class Inbound:
    """Frames of one client.

    `call` is that of the stream: who it is, and in which trace. `close` ends what is still being done.
    """

    __slots__ = (
        "_call",
        "_desk",
        "_frames",
        "_room",
        "_second",
        "_sending",
        "_session",
        "_tasks",
        "_timer",
        "_working",
    )

    def __init__(self, desk: Desk, session: Session, call: Call) -> None:
        self._desk = desk
        self._session = session
        self._call = call
        # Frames that are worked on, and who waits for room for one more.
        self._working = 0
        self._room: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # Messages on their way, the oldest first, and what looks whether they are there.
        self._sending: dict[_Sending, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._frames = 0

    def receive(self, frame: frame_pb2.ConnectRequest) -> Awaitable[None] | None:
        """Takes one frame, already validated. What is wrong with it is answered or ends the stream.

        None when it was taken at once; else it must be awaited before the next: there is no room, or it is
        not known yet whether the limits let it in. What comes when the stream has its end is not done.
        """
        if self._session.has_end:
            return None
        if self._floods():
            self._session.end(FrameFlood(), keep_rest=True)
            return None
        try:
            check_size(frame)
        except FrameInvalid as error:
            self.refuse(error.detail)
            return None
        what = frame.WhichOneof("frame")
        if what in _METHODS:
            return self._admit(what, frame)
        if what == "ping":
            self._session.push(frames.heartbeat())
            self._done(frame.ref)
        else:
            self.refuse("hello comes first, and only once")
        return None

    def _admit(self, what: str, frame: frame_pb2.ConnectRequest) -> Awaitable[None] | None:
        if self._working >= self._desk.most:
            return self._admit_later(what, frame)
        # Counted before it is begun: what waits for that must not be overtaken by what follows.
        try:
            waiting = self._desk.count(_METHODS[what], self._call)
        except SampanError as error:
            self._failed(frame.ref, error)
            return None
        if waiting is not None:
            return self._begin_after(waiting, what, frame)
        self._begin(what, frame)
        return None

    async def _admit_later(self, what: str, frame: frame_pb2.ConnectRequest) -> None:
        await self._has_room()
        waiting = self._admit(what, frame)
        if waiting is not None:
            await waiting

    async def _begin_after(
        self, waiting: Awaitable[None], what: str, frame: frame_pb2.ConnectRequest
    ) -> None:
        try:
            await waiting
        except SampanError as error:
            self._failed(frame.ref, error)
        else:
            self._begin(what, frame)

    def _begin(self, what: str, frame: frame_pb2.ConnectRequest) -> None:
        self._working += 1
        if what == "send":
            self._send(frame.ref, frame.send)
        else:
            self._start(frame.ref, partial(self._do, frame))

    def has_turn(self) -> bool:
        """Whether a frame may be received in this turn of the loop; if not, ask again in the next."""
        return self._desk.turns.take()

    def greeted(self, ref: str) -> None:
        """The first frame was a hello, and was done."""
        self._done(ref)

    def refuse(self, detail: str | None = None) -> None:
        """A frame cannot be read or comes where it may not: the stream ends."""
        self._session.end(FrameInvalid(detail), keep_rest=True)

    def close(self) -> None:
        """Nobody waits for answers any more; what is being written is written all the same."""
        for task in self._tasks:
            task.cancel()
        for sending in self._sending:
            sending.is_done = True
        if self._timer is not None:
            self._timer.cancel()

    def _floods(self) -> bool:
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._frames = now, 0
        self._frames += 1
        return self._frames > self._desk.frames_per_second

    async def _has_room(self) -> None:
        """Waits until one more may be worked on. Only who reads the frames waits here."""
        while self._working >= self._desk.most:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _leaves(self) -> None:
        """A frame is done."""
        self._working -= 1
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # Messages have no task each: that would cost more than all else that is done here for one.

    def _send(self, ref: str, given: frame_pb2.Send) -> None:
        ends = time.perf_counter() + _SECONDS
        writer = self._desk.writer
        try:
            sending = _Sending(self, ref, writer.draft(given, self._call), ends)
            writer.begin(sending.draft, ends, sending)
        except Exception as error:
            self._leaves()
            self._broken(ref, error)
            return
        self._sending[sending] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SECONDS, self._look)

    def sent(self, sending: _Sending, answer: Posted | SampanError) -> None:
        """A message is there, or never will be, or its time is up."""
        del self._sending[sending]
        if isinstance(answer, SampanError):
            self._leaves()
            self._failed(sending.ref, answer)
        elif answer.new is None:
            # The task gives back the room.
            self._start(sending.ref, partial(self._desk.writer.known, sending.draft, answer))
        else:
            self._leaves()
            if sending.ref:
                self._session.push(frames.written(sending.ref, answer.new.kept))

    def _look(self) -> None:
        """Answers those whose time is up; what of them is in flight is written all the same."""
        self._timer = None
        now = time.perf_counter()
        for sending in tuple(self._sending):
            if sending.ends > now:
                self._timer = asyncio.get_running_loop().call_later(sending.ends - now, self._look)
                return
            sending.set_result(DeadlineExceeded())

    # Everything else.

    def _start(self, ref: str, what: Callable[[], Awaitable[message_pb2.Message | None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._work(ref, what))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._leaves()
        self._tasks.discard(task)

    async def _work(self, ref: str, what: Callable[[], Awaitable[message_pb2.Message | None]]) -> None:
        try:
            with self._desk.deadlines.until(_SECONDS):
                message = await what()
        except Exception as error:
            self._broken(ref, error)
        else:
            if message is not None and ref:
                self._session.push(frames.written(ref, frames.kept(message)))
            else:
                self._done(ref)

    def _broken(self, ref: str, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            error = DeadlineExceeded()
        if not isinstance(error, SampanError):
            self._desk.crashed(error)
            error = Internal()
        self._failed(ref, error)

    async def _do(self, frame: frame_pb2.ConnectRequest) -> None:
        desk, call = self._desk, self._call
        match frame.WhichOneof("frame"):
            case "read":
                await desk.writer.MarkRead(pb.MarkReadRequest(id=frame.read.message_id), call)
            case "typing":
                await desk.writer.SendTyping(pb.SendTypingRequest(dialog_id=frame.typing.dialog_id), call)
            case "ack":
                if not self._session.device:
                    raise InvalidArgument("this stream has no device_id: say it in hello")
                await desk.acks.keep(self._session.person.id, self._session.device, frame.ack.resume)

    def _done(self, ref: str) -> None:
        if ref:
            self._session.push(frames.reply(ref))

    def _failed(self, ref: str, error: SampanError) -> None:
        self._session.push(frames.reply(ref, error.reason, error.detail))


def check_size(frame: frame_pb2.ConnectRequest) -> None:
    """Raises FrameInvalid for a frame that is larger than the contract allows."""
    if frame.ByteSize() > MOST_BYTES:
        raise FrameInvalid(f"the frame is over {MOST_BYTES} bytes")
