"""The reading end of a pipe on the event loop: whoever closes it, its descriptor is closed once."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

CHUNK = 65_536


class Listener(Protocol):
    """Who hears what comes through a pipe."""

    def heard(self, data: bytes) -> None:
        """Something was written."""

    def ended(self) -> None:
        """Nothing more will come, or be heard."""


class Pipe:
    """Hands on what comes until all writers have closed their ends, or until it is closed itself.

    Not a transport of the loop: uvloop's closes the descriptor of a file object twice, and the second time
    it may be that of something else, which another thread has just opened under the same number.
    """

    def __init__(self, descriptor: int, listener: Listener) -> None:
        self._descriptor = descriptor
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def close(self) -> None:
        """Stops listening. Safe to call again."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        self._listener.ended()

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, CHUNK)
        except BlockingIOError:
            return
        if data:
            self._listener.heard(data)
        else:
            self.close()
