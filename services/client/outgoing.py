"""Messages on their way: over the live stream, else call by call; each exactly once, in order."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sampan.messaging.v1 import frame_pb2, message_pb2
from services.client.backoff import Backoff
from services.client.errors import ChatError, Unreachable

Write = Callable[[frame_pb2.ConnectRequest], None]
Unary = Callable[[frame_pb2.Send], Awaitable[message_pb2.Message]]

# The server takes 200 frames a second and 256 at once from a stream.
_FRAMES_PER_SECOND = 180
_IN_FLIGHT = 200


@dataclass(slots=True)
class _Pending:
    send: frame_pb2.Send
    done: asyncio.Future[message_pb2.Message]
    # Under way by a call of its own.
    calling: bool = False
    backoff: Backoff = field(default_factory=Backoff)


class Pace:
    """Lets so many through in any second."""

    def __init__(self, per_second: int) -> None:
        self._times: deque[float] = deque(maxlen=per_second)

    async def turn(self) -> None:
        """Returns when one more may go."""
        if self._times and len(self._times) == self._times.maxlen:
            await asyncio.sleep(max(0.0, self._times[0] + 1.0 - time.monotonic()))
        self._times.append(time.monotonic())


class Outgoing:
    """Messages that are not yet acknowledged.

    A message keeps its `client_message_id` through all tries, so the server keeps it once. Those that a lost
    connection left without an answer go first over the next one, in the order in which they were written.
    Before `expect` each is a call of its own. `patience`: seconds without a stream until calls are made.
    `answer_within`: seconds after which a stream that does not answer is passed by.
    """

    def __init__(self, unary: Unary, *, patience: float = 2.0, answer_within: float = 10.0) -> None:
        self._unary = unary
        self._patience = patience
        self._answer_within = answer_within
        self._pending: dict[str, _Pending] = {}
        self._queue: deque[str] = deque()
        self._write: Write | None = None
        self._expecting = False
        self._down_since = 0.0
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(_IN_FLIGHT)
        self._refs = itertools.count(1)
        self._pace = Pace(_FRAMES_PER_SECOND)

    async def send(self, send: frame_pb2.Send) -> message_pb2.Message:
        """The message as it was kept. Raises ChatError; after Unreachable the same may be sent again."""
        if not self._expecting:
            return await self._unary(send)
        async with self._room:
            ref = str(next(self._refs))
            pending = _Pending(send, asyncio.get_running_loop().create_future())
            self._pending[ref] = pending
            self._later(ref)
            try:
                async with asyncio.timeout(self._patience + self._answer_within):
                    return await pending.done
            except TimeoutError:
                self._pending.pop(ref, None)
                return await self._unary(send)
            finally:
                self._pending.pop(ref, None)

    def expect(self) -> None:
        """There is going to be a stream."""
        self._expecting = True
        self._down_since = time.monotonic()

    def up(self, write: Write) -> None:
        """There is a stream: what has no answer goes over it, from the oldest on."""
        self._write = write
        self._queue = deque(self._pending)
        self._changed.set()

    def down(self) -> None:
        """The stream is gone, and with it the answers that were still to come."""
        if self._write is not None:
            self._down_since = time.monotonic()
        self._write = None
        self._queue = deque(self._pending)
        self._changed.set()

    def replied(self, reply: frame_pb2.Reply) -> None:
        """What became of one."""
        pending = self._pending.get(reply.ref)
        if pending is None or pending.done.done():
            return
        if not reply.reason:
            pending.done.set_result(reply.message)
            return
        error = ChatError(reply.reason, reply.detail)
        if error.passing:
            asyncio.get_running_loop().call_later(pending.backoff.wait(), self._later, reply.ref)
        else:
            pending.done.set_exception(error)

    async def run(self) -> None:
        """Sends one after another until it is cancelled."""
        while True:
            await self._something_to_do()
            if self._write is None and not await self._stream_by(self._down_since + self._patience):
                await self._call(self._queue.popleft())
                continue
            await self._pace.turn()
            # While it waited its turn, the stream may have gone.
            if self._write is not None and self._queue:
                self._over_stream(self._queue.popleft())

    def _later(self, ref: str) -> None:
        self._queue.append(ref)
        self._changed.set()

    async def _something_to_do(self) -> None:
        while not self._queue:
            self._changed.clear()
            await self._changed.wait()

    async def _stream_by(self, ends: float) -> bool:
        while self._write is None:
            self._changed.clear()
            try:
                async with asyncio.timeout(max(0.0, ends - time.monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                return not self._queue
        return True

    def _over_stream(self, ref: str) -> None:
        pending = self._pending.get(ref)
        if pending is None or pending.calling or pending.done.done() or self._write is None:
            return
        self._write(frame_pb2.ConnectRequest(ref=ref, send=pending.send))

    async def _call(self, ref: str) -> None:
        pending = self._pending.get(ref)
        if pending is None or pending.done.done():
            return
        pending.calling = True
        try:
            found = await self._unary(pending.send)
        except ChatError as error:
            if not pending.done.done():
                pending.done.set_exception(error)
        else:
            if not pending.done.done():
                pending.done.set_result(found)

    def close(self) -> None:
        """Whoever still waits learns that the outcome is unknown."""
        for pending in self._pending.values():
            if not pending.done.done():
                pending.done.set_exception(Unreachable("OUTCOME_UNKNOWN", "the client was closed"))
