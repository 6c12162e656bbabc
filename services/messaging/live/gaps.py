"""Reads from the log what did not come by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from services.mesh.errors import Unavailable
from services.messaging.live.dialog import Dialog
from services.messaging.live.history import History
from services.messaging.publishing import LiveEvent

# An event that is overtaken by a later one is nearly always on its way: seconds before it is read instead.
_PATIENCE = 0.02
_RETRY = 0.25


class Teller(Protocol):
    """Who tells events on."""

    def hear(self, events: Iterable[LiveEvent]) -> None:
        """Takes events, which may be repeats."""
        ...

    def skip(self, dialog: Dialog, first: int) -> None:
        """Events before `first` are gone by age, untold."""
        ...

    def is_known(self, dialog: Dialog) -> bool:
        """Whether anybody here is in it."""
        ...


class Gaps:
    """Closes the gap between what was told of a dialog and what is known to exist, one read at a time."""

    def __init__(self, teller: Teller, history: History) -> None:
        self._teller = teller
        self._history = history
        self._reads: set[asyncio.Task[None]] = set()

    def close_soon(self, dialog: Dialog, seconds: float = _PATIENCE) -> None:
        """Has a gap closed, if there still is one after so long. Never waits."""
        if dialog.target > dialog.head and not dialog.filling:
            dialog.filling = True
            asyncio.get_running_loop().call_later(seconds, self._close, dialog)

    def _close(self, dialog: Dialog) -> None:
        if dialog.target <= dialog.head or not self._teller.is_known(dialog):
            dialog.filling = False
            return
        task = asyncio.get_running_loop().create_task(self._read(dialog))
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

    async def _read(self, dialog: Dialog) -> None:
        try:
            read = await asyncio.shield(self._history.ask(dialog, dialog.head, dialog.target))
        except Unavailable:
            dialog.filling = False
            self.close_soon(dialog, _RETRY)
            return
        dialog.filling = False
        if read.first > dialog.head + 1:
            self._teller.skip(dialog, read.first)
        self._teller.hear(read.events)
        self.close_soon(dialog)
