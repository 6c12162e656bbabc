"""The event loop of a process that serves: uvloop's, awake once for all that gRPC has to tell.

gRPC's thread writes a byte to a socket for each event, and what reads it takes all events but one byte: the
loop then goes around once more for each of the others, and finds nothing.
"""

from __future__ import annotations

import array
import fcntl
import socket
import termios
from collections.abc import Callable
from typing import Any

import uvloop

# What of gRPC's binding waits for those bytes.
_QUEUE = "PollerCompletionQueue"


class Loop(uvloop.Loop):
    """The loop itself."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """Calls back when there is something to read."""
        # A partial of it, bound to the loop.
        of = getattr(getattr(callback, "func", callback), "__self__", None)
        if type(of).__name__ == _QUEUE and isinstance(fd, socket.socket):
            callback = once(fd, callback)
        super().add_reader(fd, callback, *args)


def once(reads: socket.socket, callback: Callable[..., Any]) -> Callable[..., Any]:
    """The same callback, after all but the one byte that it reads have been taken.

    Events are there before their bytes: so those of what is taken here are found by this very call.
    """
    count = array.array("i", [0])

    def called(*args: Any) -> None:
        fcntl.ioctl(reads, termios.FIONREAD, count)
        if count[0] > 1:
            reads.recv(count[0] - 1)
        callback(*args)

    return called
