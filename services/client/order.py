"""Holds the server to its promise: events of a dialog come 1, 2, 3, each once."""

from __future__ import annotations

from sampan.messaging.v1 import frame_pb2
from services.client.errors import OrderBroken


class Order:
    """Knows the last event of each dialog. `check` raises OrderBroken for a gap, a repeat, a missed end."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._heads: dict[str, int] = {}

    def check(self, frame: frame_pb2.Frame, user_id: str) -> None:
        """Takes a frame of a stream of `user_id`."""
        for head in frame.heads:
            if not head.left:
                self._heads[head.dialog_id] = head.last_seq
        for cut in frame.truncated:
            self._last[cut.dialog_id] = cut.first_seq - 1
        for event in frame.events:
            self._event(event, user_id)
        for head in frame.heads:
            if head.left:
                self._last.pop(head.dialog_id, None)
                self._heads.pop(head.dialog_id, None)
        if frame.live:
            self._caught_up()

    def restart(self) -> None:
        """Another stream begins; what it says first are heads."""
        self._heads.clear()

    def forget(self) -> None:
        """Goes on from wherever the next stream begins."""
        self._last.clear()
        self._heads.clear()

    def _event(self, event: frame_pb2.Event, user_id: str) -> None:
        known = self._last.get(event.dialog_id)
        # Who comes into a dialog sees it from there on, also when they were in it before.
        joins = event.WhichOneof("change") == "member_added" and event.member_added.user_id == user_id
        behind = known is not None and event.seq <= known
        if known is not None and event.seq != known + 1 and (behind or not joins):
            raise OrderBroken(event.dialog_id, known + 1, event.seq)
        self._last[event.dialog_id] = event.seq

    def _caught_up(self) -> None:
        """Nothing up to the heads is missing. Where nothing was missed, the head is the position."""
        for dialog_id, head in self._heads.items():
            known = self._last.setdefault(dialog_id, head)
            if known < head:
                raise OrderBroken(dialog_id, known + 1, head + 1)
        self._heads.clear()
