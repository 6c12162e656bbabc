"""One live stream of one device, the same for every door: what it has to send, and where it stands."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from services.mesh.errors import SampanError, Unavailable
from services.messaging.live import frames
from services.messaging.live.dialog import Dialog, Person
from services.messaging.live.frames import Piece
from services.messaging.live.resume import MOST_ENTRIES

if TYPE_CHECKING:
    from services.messaging.live.hub import Hub

# What is written up to so many seconds before is never taken for seen only because of its time: transactions
# and differences between clocks are far shorter.
MARGIN = 600
# Seconds after which a token's list is shortened, and how much older than that what is left out must be.
_REBASE = 1200
_SPARE = 60
# Dialogs that are read for one frame.
_AT_ONCE = 32
_RETRY = 0.3


class Session:
    """Frames for one device: `async for frame in session` gives protobuf bytes, `texts` gives JSON.

    It holds no more than `queue_bytes`: over that it drops events and reads them again when it can write.
    `behind` says of which dialogs it has not been told all that others were, and up to where it was; `ending`
    after which event a dialog is over for it. `open` in opening.py makes it; whoever has it must `close` it.
    """

    __slots__ = (
        "__weakref__",
        "_cold",
        "_end",
        "_hub",
        "_is_live",
        "_keep_rest",
        "_listed",
        "_moved",
        "_over",
        "_pending",
        "_size",
        "_stamp",
        "_waiter",
        "behind",
        "device",
        "ending",
        "expires",
        "person",
        "session_id",
        "wrote",
    )

    def __init__(self, hub: Hub, person: Person, device: str, session_id: str, expires: float) -> None:
        self._hub = hub
        self.person = person
        self.device = device
        self.session_id = session_id
        self.expires = expires
        # Tick of the hub's clock at which it last had a frame.
        self.wrote = 0
        self.behind: dict[Dialog, int] | None = None
        self.ending: dict[Dialog, int] | None = None
        self._listed: dict[Dialog, bytes] | None = None
        self._cold = 0
        self._stamp = 0
        self._pending: list[Piece] | None = None
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._end: Piece | None = None
        self._keep_rest = False
        self._is_live = False
        self._moved = True
        self._over = False

    def begin(self, stamp: int, cold: int, cursors: Mapping[Dialog, int], first: list[Piece]) -> None:
        """Says where it starts: `cursors` of dialogs that are behind, or had events since `cold`."""
        self._stamp = stamp
        self._cold = cold
        listed = {}
        behind = {}
        for dialog, cursor in cursors.items():
            listed[dialog] = _entry(dialog, cursor)
            if cursor != dialog.head or (self.ending and dialog in self.ending):
                behind[dialog] = cursor
        self._listed = listed or None
        self.behind = behind or None
        self._pending = first
        self._size = sum(len(piece.data) for piece in first)

    # What the hub tells. None of it waits.

    def push(self, piece: Piece) -> None:
        """Something to send."""
        if self._pending is None:
            self._pending = [piece]
        else:
            self._pending.append(piece)
        self._size += len(piece.data)
        if self._size > self._hub.queue_bytes:
            self._overflow()
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def wake(self) -> None:
        """Looks again whether there is something to send."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def enter(self, dialog: Dialog, cursor: int, head: Piece) -> None:
        """The person is in one more dialog; all after `cursor` comes."""
        if self._listed is None:
            self._listed = {}
        self._listed[dialog] = _entry(dialog, cursor)
        if cursor != dialog.head:
            self._fall_behind(dialog, cursor)
        self._moved = True
        self.push(head)

    def leave(self, dialog: Dialog, seq: int) -> None:
        """The person is in a dialog no longer: event `seq` is the last of it."""
        if self.behind is not None and dialog in self.behind:
            if self.ending is None:
                self.ending = {}
            self.ending[dialog] = seq
            self.wake()
        else:
            self.push(frames.departure(dialog))

    def end(self, error: SampanError, *, retry_after_ms: int = 0, keep_rest: bool = False) -> None:
        """Has an end frame sent as the last, after what waits to be sent if that is to be kept."""
        if self._end is None:
            self._end = frames.end(error.reason, error.detail, retry_after_ms)
            self._keep_rest = keep_rest
            self.wake()

    def close(self) -> None:
        """Takes it out of the hub; again it does nothing."""
        self._over = True
        self._hub.leave(self)
        self._pending = self.behind = self.ending = self._listed = None
        self.wake()

    def greeting(self) -> list[Piece]:
        """What it says first, for a client that may yet say where it was: no position, and no event."""
        pending = self._pending or []
        first, self._pending = pending[:1], pending[1:] or None
        self._size -= sum(len(piece.data) for piece in first)
        return [*first, frames.heartbeat()]

    @property
    def has_end(self) -> bool:
        """Whether its last frame is decided, or was sent."""
        return self._over or self._end is not None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for something to send."""
        return self._waiter is not None

    # What the door asks.

    def __aiter__(self) -> Session:
        return self

    async def __anext__(self) -> bytes:
        pieces, token = await self._next()
        return frames.binary(pieces, token)

    async def texts(self) -> AsyncIterator[str]:
        """The frames as JSON."""
        while True:
            try:
                pieces, token = await self._next()
            except StopAsyncIteration:
                return
            yield frames.text(pieces, token)

    async def _next(self) -> tuple[list[Piece], bytes]:
        """The next frame. Raises StopAsyncIteration after the last."""
        while not self._over:
            if self._end is not None:
                return self._last(self._end)
            if self.behind is not None:
                await self._catch_up()
            if self.behind is None and not self._is_live:
                self._is_live = True
                self.push(frames.LIVE)
            if self._end is None and self._pending is not None:
                return self._take()
            if self._end is None and not self._over:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        raise StopAsyncIteration

    def _take(self) -> tuple[list[Piece], bytes]:
        pending = self._pending or []
        self._pending = None
        self._size = 0
        self.wrote = self._hub.tick
        for piece in pending:
            if piece.dialog is not None:
                self._move(piece, piece.dialog)
        if not self._moved:
            return pending, b""
        self._moved = False
        return pending, self._token()

    def _last(self, end: Piece) -> tuple[list[Piece], bytes]:
        self._over = True
        if not self._keep_rest:
            return [end], b""
        pieces, token = self._take()
        return [*pieces, end], token

    def _move(self, piece: Piece, dialog: Dialog) -> None:
        self._moved = True
        if self._listed is None:
            self._listed = {}
        if piece.entry:
            self._listed[dialog] = piece.entry
        else:
            # One is in it no longer.
            self._listed.pop(dialog, None)

    # Where it stands.

    def _token(self) -> bytes:
        listed = self._listed or {}
        now = self._hub.now()
        if now - self._cold > _REBASE:
            self._rebase(listed)
        self._stamp = max(int(now * 1000), self._stamp + 1)
        return self._hub.tokens.make(self.person.id.bytes, self._stamp, self._cold, self._entries(listed))

    def _entries(self, listed: dict[Dialog, bytes]) -> list[bytes]:
        if len(listed) <= MOST_ENTRIES:
            return list(listed.values())
        # More than a token takes. What is left out may come again, and is never lost, if it is not behind.
        behind = self.behind or {}
        order = sorted(listed, key=lambda dialog: (dialog not in behind, -dialog.active_at))
        return [listed[dialog] for dialog in order[:MOST_ENTRIES]]

    def _rebase(self, listed: dict[Dialog, bytes]) -> None:
        """Leaves out what is told by time as well: all of it was sent, and it is long ago."""
        cold = int(self.person.checked_at) - MARGIN
        if cold - self._cold < MARGIN:
            return
        behind = self.behind or {}
        for dialog in [one for one in listed if one.active_at < cold - _SPARE and one not in behind]:
            del listed[dialog]
        self._cold = cold

    # A reader that is slow, or comes late.

    def _fall_behind(self, dialog: Dialog, cursor: int) -> None:
        if self.behind is None:
            self.behind = {}
        self.behind[dialog] = min(cursor, self.behind.get(dialog, cursor))
        if self._listed is None:
            self._listed = {}
        self._listed.setdefault(dialog, _entry(dialog, cursor))

    def _overflow(self) -> None:
        """Drops events, which are in the log; keeps what is nowhere else, the newest of each state."""
        pending = self._pending or []
        over = {piece.dialog for piece in pending if piece.dialog is not None and not piece.entry}
        kept: dict[object, Piece] = {}
        lost: dict[Dialog, int] = {}
        for piece in pending:
            dialog = piece.dialog
            if dialog is None or dialog in over:
                kept[piece.key or piece] = piece
            else:
                lost.setdefault(dialog, piece.first - 1)
        for dialog, cursor in lost.items():
            self._fall_behind(dialog, cursor)
        self._hub.dropped += bool(lost)
        self._pending = list(kept.values())
        self._size = sum(len(piece.data) for piece in self._pending)

    async def _catch_up(self) -> None:
        """Adds what comes next in the dialogs that are behind."""
        hub, behind = self._hub, self.behind or {}
        reads = []
        for dialog, cursor in tuple(behind.items()):
            until = (self.ending or {}).get(dialog, dialog.head)
            if cursor >= until:
                self._arrive(dialog, cursor)
                continue
            found = dialog.recent(cursor, until) or hub.history.ask(dialog, cursor, until)
            reads.append((dialog, cursor, found))
            if len(reads) >= _AT_ONCE:
                break
        for dialog, cursor, found in reads:
            if self._size > hub.queue_bytes // 2:
                return
            try:
                piece = found if isinstance(found, Piece) else (await asyncio.shield(found)).piece
            except Unavailable:
                pause = _RETRY * random.uniform(0.5, 1.5)  # noqa: S311 - only not all at once
                asyncio.get_running_loop().call_later(pause, self.wake)
                return
            if self.behind is not None and self.behind.get(dialog) == cursor:
                self._add(dialog, cursor, piece)

    def _add(self, dialog: Dialog, cursor: int, piece: Piece) -> None:
        pending = self._pending = self._pending or []
        if piece.first != cursor + 1:
            pending.append(frames.truncated(dialog.id, piece.first))
        pending.append(piece)
        self._size += len(piece.data)
        behind = self.behind
        if behind is None:
            return
        behind[dialog] = piece.last
        if piece.last >= (self.ending or {}).get(dialog, dialog.head):
            self._arrive(dialog, piece.last)

    def _arrive(self, dialog: Dialog, cursor: int) -> None:
        """It has all of a dialog: from here on it is told like the others, or no more."""
        if self.behind is None:
            return
        if self.ending is not None and dialog in self.ending:
            del self.ending[dialog]
            self.ending = self.ending or None
            self._pending = self._pending or []
            self._pending.append(frames.departure(dialog))
        elif cursor > dialog.head:
            # It knows more than this process was told so far.
            self._hub.expect(dialog, cursor)
            return
        del self.behind[dialog]
        self.behind = self.behind or None


def _entry(dialog: Dialog, cursor: int) -> bytes:
    """What a token says of a dialog; the same object for all who have all of it."""
    return dialog.entry if cursor == dialog.head else frames.entry(dialog.id, cursor)
