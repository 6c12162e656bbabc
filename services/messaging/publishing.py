"""What the writing side tells the live side, after the commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol
from uuid import UUID


class LiveEvent(NamedTuple):
    """One event of a dialog. `data` is a serialized sampan.messaging.v1.Event with its dialog and number."""

    dialog_id: UUID
    seq: int
    data: bytes


class Publisher(Protocol):
    """Takes what was committed to those who are connected. Never waits, never raises.

    What gets lost here is found in the log: nothing depends on it but how soon people see it.
    """

    def events(self, events: Sequence[LiveEvent]) -> None:
        """Events, those of one dialog in the order of their numbers."""
        ...

    def receipt(self, dialog_id: UUID, user_id: UUID, read_seq: int, unread: int, *, to_all: bool) -> None:
        """Somebody has read; without `to_all` only for their own devices."""
        ...

    def joined(self, dialog_id: UUID, user_ids: Sequence[UUID]) -> None:
        """People are in a dialog from now on."""
        ...

    def left(self, dialog_id: UUID, user_ids: Sequence[UUID], seq: int) -> None:
        """People are in a dialog no longer; event `seq`, which says so, is the last for them."""
        ...

    def typing(self, dialog_id: UUID, user_id: UUID) -> None:
        """Somebody is writing."""
        ...
