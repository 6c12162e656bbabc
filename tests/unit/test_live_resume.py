"""Resume tokens: they say what was put in, to nobody else, and not when one bit is another."""

from __future__ import annotations

import base64
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.messaging.errors import ResumeTokenInvalid
from services.messaging.live import frames
from services.messaging.live.resume import MOST_ENTRIES, Position, Tokens, packed, unpacked

NOW = 1_800_000_000.0
TOKENS = Tokens(b"k" * 32, days=30)
uuids = st.uuids()
positions = st.dictionaries(uuids, st.integers(0, 2**63 - 1), max_size=20)
stamps = st.integers(int((NOW - 86_400) * 1000), int(NOW * 1000))


def token(user: uuid.UUID, stamp: int, cold: int, cursors: dict[uuid.UUID, int]) -> str:
    entries = [frames.entry(dialog, seq) for dialog, seq in cursors.items()]
    return TOKENS.make(user.bytes, stamp, cold, entries).decode()


@given(uuids, stamps, st.integers(0, 2**32 - 1), positions)
def test_a_token_says_what_was_put_in(
    user: uuid.UUID, stamp: int, cold: int, cursors: dict[uuid.UUID, int]
) -> None:
    made = token(user, stamp, cold, cursors)
    assert TOKENS.read(user, made, NOW) == Position(stamp, cold, cursors)
    assert unpacked(packed(made)) == made


@given(uuids, uuids, positions)
def test_a_token_is_good_for_one_person_only(
    user: uuid.UUID, other: uuid.UUID, cursors: dict[uuid.UUID, int]
) -> None:
    made = token(user, int(NOW * 1000), 0, cursors)
    if other != user:
        with pytest.raises(ResumeTokenInvalid):
            TOKENS.read(other, made, NOW)


@given(uuids, positions, st.data())
def test_a_changed_bit_makes_it_invalid(
    user: uuid.UUID, cursors: dict[uuid.UUID, int], data: st.DataObject
) -> None:
    raw = bytearray(packed(token(user, int(NOW * 1000), 5, cursors)))
    place = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[place // 8] ^= 1 << place % 8
    with pytest.raises(ResumeTokenInvalid):
        TOKENS.read(user, unpacked(bytes(raw)), NOW)


@given(uuids, st.text(max_size=200))
def test_any_text_is_refused(user: uuid.UUID, text: str) -> None:
    with pytest.raises(ResumeTokenInvalid):
        TOKENS.read(user, text, NOW)


@given(uuids, st.binary(max_size=400))
def test_any_bytes_are_refused(user: uuid.UUID, raw: bytes) -> None:
    with pytest.raises(ResumeTokenInvalid):
        TOKENS.read(user, unpacked(raw), NOW)


@given(uuids, positions, st.integers(0, 100), st.integers(0, 100))
def test_parts_of_two_tokens_make_none(
    user: uuid.UUID, cursors: dict[uuid.UUID, int], cut: int, other_cut: int
) -> None:
    one = token(user, int(NOW * 1000), 5, cursors)
    other = token(user, int(NOW * 1000) - 1, 6, {})
    mixed = one[:cut] + other[other_cut:]
    if mixed not in (one, other):
        with pytest.raises(ResumeTokenInvalid):
            TOKENS.read(user, mixed, NOW)


def test_only_one_text_stands_for_a_token() -> None:
    user = uuid.uuid4()
    made = token(user, int(NOW * 1000), 0, {})
    raw = base64.urlsafe_b64decode(made + "=" * (-len(made) % 4))
    assert base64.urlsafe_b64encode(raw).decode().rstrip("=") == made
    for wrong in (made + "=", made + "==", made + "\n", made.replace("-", "+") + " ", " " + made):
        with pytest.raises(ResumeTokenInvalid):
            TOKENS.read(user, wrong, NOW)


@pytest.mark.parametrize(
    ("age", "good"), [(0, True), (30 * 86_400 - 1, True), (30 * 86_400 + 1, False), (-120, True)]
)
def test_a_token_is_good_for_thirty_days(age: int, good: bool) -> None:
    user = uuid.uuid4()
    made = token(user, int((NOW - age) * 1000), 0, {})
    if good:
        TOKENS.read(user, made, NOW)
    else:
        with pytest.raises(ResumeTokenInvalid):
            TOKENS.read(user, made, NOW)


def test_another_key_knows_no_token_of_ours() -> None:
    user = uuid.uuid4()
    with pytest.raises(ResumeTokenInvalid):
        Tokens(b"o" * 32, days=30).read(user, token(user, int(NOW * 1000), 0, {}), NOW)


def test_the_longest_token_fits_the_contract() -> None:
    made = TOKENS.make(b"u" * 16, int(NOW * 1000), 0, [b"e" * 24] * MOST_ENTRIES)
    assert len(made) <= 65_536
