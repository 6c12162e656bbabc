"""A connection of the WebSocket door: what nearly all frames are passes without the library's many steps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedOK
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.speedups import apply_mask

# A text and a binary message of one piece, uncompressed; and what such a message begins with on its way out.
_MESSAGES = {0x81: Opcode.TEXT, 0x82: Opcode.BINARY}
_TEXT, _BINARY = b"\x81", b"\x82"
_MASKED, _LENGTH = 0x80, 0x7F
# Lengths that say how many bytes the true one has; a frame's bytes before its payload, the first two of which
# say how many there are, and the last four are its mask.
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_HEADS = {_TWO_BYTES: 8, _EIGHT_BYTES: 14}
_START, _HEAD, _MASK = 2, 6, 4
_LONG = 1 << 16
_REQUEST_ENDS = b"\r\n\r\n"


class Connection(ServerConnection):
    """Cuts what comes into frames. Whole messages go straight to who reads them; all others (control frames,
    pieces, what is compressed or breaks the protocol) the library gets as they came.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        # What came of a frame that is not whole, and how many bytes of it must be there to go on.
        self._rest = bytearray()
        self._wanted = 0
        # Whether the library reads alone, since where a frame begins only it knows.
        self._is_left_to_library = False

    # Reading.

    def data_received(self, data: bytes) -> None:
        """Takes what came. The library has kept nothing of it unless it reads alone."""
        if self._is_left_to_library:
            super().data_received(data)
        elif self.protocol.state is State.CONNECTING:
            self._shake_hands(data)
        elif not self._rest:
            self._cut(data)
        else:
            self._rest += data
            if len(self._rest) >= self._wanted:
                data, self._rest = bytes(self._rest), bytearray()
                self._cut(data)

    def _shake_hands(self, data: bytes) -> None:
        """Who says something before they are let in has the library's care."""
        ends = data.find(_REQUEST_ENDS) + len(_REQUEST_ENDS) == len(data)
        was_asked = self.request is not None
        super().data_received(data)
        self._is_left_to_library = was_asked or (self.request is not None and not ends)

    def _cut(self, data: bytes) -> None:
        protocol, at, there = self.protocol, 0, len(data)
        while (left := there - at) >= _START:
            length = data[at + 1] & _LENGTH
            head = _HEADS.get(length, _HEAD)
            is_masked = data[at + 1] & _MASKED
            if left < head and is_masked:
                break
            body = at + head
            if length >= _TWO_BYTES:
                length = int.from_bytes(data[at + 2 : body - _MASK], "big")
            if not is_masked or length > (protocol.max_message_size or 0):
                # The library says what is wrong, and ends it.
                self._is_left_to_library = True
                super().data_received(data[at:])
                return
            end = body + length
            if end > there:
                head += length
                break
            kind = _MESSAGES.get(data[at])
            if kind is not None and protocol.state is State.OPEN and protocol.current_size is None:
                payload = apply_mask(data[body:end], data[body - _MASK : body])
                self.recv_messages.put(Frame(kind, payload))
            else:
                super().data_received(data[at:end])
            at = end
        else:
            head = _START
        self._rest += data[at:]
        self._wanted = head

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """What the client says, until one of us closes. Raises ConnectionClosed when that was not clean."""
        inbox = self.recv_messages
        queue = inbox.frames.queue
        while True:
            message = _message(queue[0]) if queue and not inbox.get_in_progress else None
            if message is not None:
                queue.popleft()
                inbox.maybe_resume()
                yield message
                continue
            try:
                yield await self.recv()
            except ConnectionClosedOK:
                return

    # Writing.

    async def send(self, message: Any, *, text: bool | None = None) -> None:
        """Sends a message; waits while the client is slow to read. Raises ConnectionClosed."""
        plain = isinstance(message, str | bytes) and text is None and not self.protocol.extensions
        if not plain or self.protocol.state is not State.OPEN:
            await super().send(message, text=text)
            return
        self.transport.write(_frame(message))
        if self.paused:
            await self.drain()


def _frame(message: str | bytes) -> bytes:
    kind, payload = (_TEXT, message.encode()) if isinstance(message, str) else (_BINARY, message)
    size = len(payload)
    if size < _TWO_BYTES:
        length = bytes((size,))
    elif size < _LONG:
        length = bytes((_TWO_BYTES,)) + size.to_bytes(2, "big")
    else:
        length = bytes((_EIGHT_BYTES,)) + size.to_bytes(8, "big")
    return b"".join((kind, length, payload))


def _message(frame: Frame) -> str | bytes | None:
    """What a frame says; None when that is no message, or not all of it."""
    data = bytes(frame.data)
    if not frame.fin or frame.opcode is Opcode.BINARY:
        return data if frame.fin else None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
