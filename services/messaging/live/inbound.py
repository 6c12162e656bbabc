"""What a client says over its stream: each frame is done, answered or refused, and may end the stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from sampan.messaging.v1 import frame_pb2, message_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.deadline import Deadlines
from services.mesh.errors import DeadlineExceeded, Internal, InvalidArgument, SampanError
from services.messaging.errors import FrameFlood, FrameInvalid
from services.messaging.live import frames
from services.messaging.live.acks import Acks
from services.messaging.live.stream import Session

# The contract says so.
MOST_BYTES = 256 * 1024
_SERVICE = "/sampan.messaging.v1.MessagingService/"
# What each frame stands for.
_METHODS = {"send": "SendMessage", "read": "MarkRead", "typing": "SendTyping", "ack": "AckEvents"}


class Writer(Protocol):
    """The unary methods that frames stand for."""

    async def SendMessage(self, request: pb.SendMessageRequest, call: Call) -> message_pb2.Message: ...  # noqa: N802

    async def MarkRead(self, request: pb.MarkReadRequest, call: Call) -> pb.MarkReadResponse: ...  # noqa: N802

    async def SendTyping(self, request: pb.SendTypingRequest, call: Call) -> pb.SendTypingResponse: ...  # noqa: N802


# Counts one call of a method by a person. Raises RateLimited, or the awaitable does.
Count = Callable[[str, Call], Awaitable[None] | None]
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
        self.count: Count = lambda _path, _call: None
        self.deadlines = Deadlines()


class Inbound:
    """Frames of one client. `receive` returns at once while there is room for more.

    `call` is that of the stream: who it is, and in which trace. `close` ends what is still being done.
    """

    __slots__ = ("_call", "_desk", "_frames", "_room", "_second", "_session", "_tasks")

    def __init__(self, desk: Desk, session: Session, call: Call) -> None:
        self._desk = desk
        self._session = session
        self._call = call
        self._room = asyncio.Semaphore(desk.most)
        self._tasks: set[asyncio.Task[None]] = set()
        self._second = 0
        self._frames = 0

    async def receive(self, frame: frame_pb2.ConnectRequest) -> None:
        """Takes one frame, already validated. What is wrong with it is answered or ends the stream.

        What comes when the stream has its end is not done.
        """
        if self._session.has_end:
            return
        if self._floods():
            self._session.end(FrameFlood(), keep_rest=True)
            return
        try:
            check_size(frame)
        except FrameInvalid as error:
            self.refuse(error.detail)
            return
        match frame.WhichOneof("frame"):
            case "ping":
                self._session.push(frames.heartbeat())
                self._done(frame.ref)
            case "hello" | None:
                self.refuse("hello comes first, and only once")
            case _:
                await self._room.acquire()
                # Counted before it is begun: what waits for that must not be overtaken by what follows.
                refused = await self._counted(frame)
                if refused is not None:
                    self._room.release()
                    self._failed(frame.ref, refused)
                    return
                task = asyncio.get_running_loop().create_task(self._work(frame))
                self._tasks.add(task)
                task.add_done_callback(self._finished)

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

    def _floods(self) -> bool:
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._frames = now, 0
        self._frames += 1
        return self._frames > self._desk.frames_per_second

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._room.release()
        self._tasks.discard(task)

    async def _counted(self, frame: frame_pb2.ConnectRequest) -> SampanError | None:
        """Counts a frame as a call of the method that it stands for; the error that refuses it, or None."""
        path = _SERVICE + _METHODS[frame.WhichOneof("frame") or ""]
        try:
            waiting = self._desk.count(path, self._call)
            if waiting is not None:
                await waiting
        except SampanError as error:
            return error
        return None

    async def _work(self, frame: frame_pb2.ConnectRequest) -> None:
        try:
            with self._desk.deadlines.until(5.0):
                message = await self._do(frame)
        except SampanError as error:
            self._failed(frame.ref, error)
        except TimeoutError:
            self._failed(frame.ref, DeadlineExceeded())
        except Exception as error:
            self._desk.crashed(error)
            self._failed(frame.ref, Internal())
        else:
            self._done(frame.ref, message)

    async def _do(self, frame: frame_pb2.ConnectRequest) -> message_pb2.Message | None:
        desk, call = self._desk, self._call
        match frame.WhichOneof("frame"):
            case "send":
                return _short(await desk.writer.SendMessage(_request(frame.send), call))
            case "read":
                await desk.writer.MarkRead(pb.MarkReadRequest(id=frame.read.message_id), call)
            case "typing":
                await desk.writer.SendTyping(pb.SendTypingRequest(dialog_id=frame.typing.dialog_id), call)
            case "ack":
                if not self._session.device:
                    raise InvalidArgument("this stream has no device_id: say it in hello")
                await desk.acks.keep(self._session.person.id, self._session.device, frame.ack.resume)
        return None

    def _done(self, ref: str, message: message_pb2.Message | None = None) -> None:
        if ref:
            self._session.push(frames.reply(ref, message=message))

    def _failed(self, ref: str, error: SampanError) -> None:
        self._session.push(frames.reply(ref, error.reason, error.detail))


def check_size(frame: frame_pb2.ConnectRequest) -> None:
    """Raises FrameInvalid for a frame that is larger than the contract allows."""
    if frame.ByteSize() > MOST_BYTES:
        raise FrameInvalid(f"the frame is over {MOST_BYTES} bytes")


def _request(send: frame_pb2.Send) -> pb.SendMessageRequest:
    return pb.SendMessageRequest(
        dialog_id=send.dialog_id,
        content=send.content,
        client_message_id=send.client_message_id,
        reply_to=send.reply_to,
        thread_id=send.thread_id,
        file_ids=send.file_ids,
        mentions=send.mentions,
    )


def _short(message: message_pb2.Message) -> message_pb2.Message:
    """What its sender does not know yet."""
    return message_pb2.Message(
        id=message.id,
        dialog_id=message.dialog_id,
        seq=message.seq,
        client_message_id=message.client_message_id,
        created_at=message.created_at,
    )
