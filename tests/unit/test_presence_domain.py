"""Who may see what of somebody's presence."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.presence.domain import Change, Preferences, Presence, State, Status, own, shown, to_tell
from services.presence.events import bucket

WHO = uuid.UUID(int=7)
SEEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OPEN, HIDDEN, INVISIBLE = Preferences(), Preferences(last_seen_hidden=True), Preferences(invisible=True)
STATES = st.builds(State, st.sampled_from(Status), st.just(SEEN))
PREFERENCES = st.builds(Preferences, st.booleans(), st.booleans())


def change(state: State, *, anew: bool = False) -> Change:
    return Change(WHO, state, anew, turn=1)


@pytest.mark.parametrize(("status", "seen"), [("online", None), ("away", SEEN), ("offline", SEEN)])
def test_who_is_online_has_no_last_seen(status: str, seen: datetime | None) -> None:
    state = State(Status(status), SEEN)
    assert shown(WHO, state, OPEN, OPEN) == own(WHO, state) == Presence(WHO, Status(status), seen)


@given(STATES, PREFERENCES)
def test_hiding_something_hides_the_same_of_others(state: State, mine: Preferences) -> None:
    assert shown(WHO, state, mine, OPEN) == shown(WHO, state, OPEN, mine)


@given(STATES, PREFERENCES)
def test_the_invisible_look_as_if_they_had_never_been_there(state: State, viewer: Preferences) -> None:
    for theirs in (INVISIBLE, Preferences(last_seen_hidden=True, invisible=True)):
        assert shown(WHO, state, theirs, viewer) == Presence(WHO, Status.OFFLINE, None)


@given(STATES)
def test_who_hides_when_they_were_last_seen_is_still_seen_to_be_there(state: State) -> None:
    assert shown(WHO, state, HIDDEN, OPEN) == Presence(WHO, state.status, None)


def test_of_the_invisible_everybody_is_told_once_that_they_are_offline() -> None:
    state = State(Status.ONLINE, SEEN)
    assert to_tell(change(state), INVISIBLE) is None
    assert to_tell(change(state, anew=True), INVISIBLE) == Presence(WHO)
    assert to_tell(change(state, anew=True), OPEN) == Presence(WHO, Status.ONLINE)


def test_people_are_spread_over_all_buckets() -> None:
    found = {bucket(uuid.UUID(int=number)) for number in range(4096)}
    assert found == {f"{number:02x}" for number in range(256)}
