"""Who may work in this turn of the event loop, and who waits for the next."""

from __future__ import annotations

import asyncio


class Turns:
    """Lets at most `most` pieces of work into one turn of the loop.

    All who have something to do are woken in one turn. Were all of it done there, nothing that the first have
    begun could go on before the last have begun theirs.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most

    def take(self) -> bool:
        """Whether one more piece has room in this turn; if not, ask again in the next."""
        if self._left == self._most:
            asyncio.get_running_loop().call_soon(self._renew)
        self._left -= 1
        return self._left >= 0

    def _renew(self) -> None:
        self._left = self._most
