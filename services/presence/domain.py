"""Values and rules of presence: how somebody is, and who may see what of it. No I/O, no proto."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Status(StrEnum):
    """How somebody is: the most awake of their devices."""

    ONLINE = "online"
    AWAY = "away"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class State:
    """How somebody really is. `seen` is when they were last active; None when nobody knows any more."""

    status: Status = Status.OFFLINE
    seen: datetime | None = None


@dataclass(frozen=True, slots=True)
class Preferences:
    """What somebody shows of themselves."""

    last_seen_hidden: bool = False
    invisible: bool = False

    @property
    def hides_last_seen(self) -> bool:
        """Whether nobody sees when they were last seen: of the invisible nobody does."""
        return self.last_seen_hidden or self.invisible


# What is shown of those of whom it is not known: nothing.
UNKNOWN = Preferences(last_seen_hidden=True, invisible=True)


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change in preferences; None leaves a field as it is."""

    last_seen_hidden: bool | None = None
    invisible: bool | None = None

    @property
    def given(self) -> dict[str, bool]:
        """The changes by field."""
        fields = {"last_seen_hidden": self.last_seen_hidden, "invisible": self.invisible}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Presence:
    """How somebody looks to somebody."""

    user_id: UUID
    status: Status = Status.OFFLINE
    last_seen: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Somebody has come or gone. `turn` counts the changes of one person.

    `anew` has everybody told whatever they heard before: preferences have changed.
    """

    user_id: UUID
    state: State
    anew: bool
    turn: int


def own(user_id: UUID, state: State) -> Presence:
    """How people look to themselves: as they are."""
    return Presence(user_id, state.status, None if state.status is Status.ONLINE else state.seen)


def shown(user_id: UUID, state: State, theirs: Preferences, viewer: Preferences) -> Presence:
    """How somebody looks to one who shares a dialog with them: who hides something does not see it either."""
    if theirs.invisible or viewer.invisible:
        return Presence(user_id)
    seen = own(user_id, state)
    if theirs.hides_last_seen or viewer.hides_last_seen:
        return Presence(user_id, seen.status)
    return seen


def to_tell(change: Change, theirs: Preferences) -> Presence | None:
    """What all who may see somebody are told of a change; None when it is none of their business.

    The invisible are told of once, as offline: telling it again whenever they come and go would show that.
    """
    if theirs.invisible and not change.anew:
        return None
    return shown(change.user_id, change.state, theirs, Preferences())
