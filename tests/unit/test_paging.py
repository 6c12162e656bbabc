"""Page tokens are read back only as they were made."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.paging import PageTokenInvalid, PageTokens

KEY = b"k" * 32
TOKENS = PageTokens(KEY, "profiles")


@given(st.lists(st.text(max_size=20), max_size=4))
def test_a_position_comes_back(position: list[str]) -> None:
    token = TOKENS.make(*position)
    assert TOKENS.read(token) == tuple(position)
    assert token.replace("-", "a").replace("_", "a").isalnum()


def test_no_token_is_the_first_page() -> None:
    assert TOKENS.read("") is None


@given(st.text(max_size=200))
def test_any_other_text_is_refused(text: str) -> None:
    if text:
        with pytest.raises(PageTokenInvalid):
            TOKENS.read(text)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_token_with_one_changed_byte_is_refused(at: int, mask: int) -> None:
    token = TOKENS.make("0198f0c0-0000-7000-8000-000000000000")
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[at % len(raw)] ^= mask
    with pytest.raises(PageTokenInvalid):
        TOKENS.read(base64.urlsafe_b64encode(raw).rstrip(b"=").decode())


def test_another_form_of_the_same_token_is_refused() -> None:
    # 16 bytes of MAC and four of text: the last character carries bits that decoders ignore.
    token = TOKENS.make("")
    assert len(token) % 4 == 3
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for other in (
        f"{token}=",
        token + "\n",
        f" {token}",
        token[:-1] + alphabet[alphabet.index(token[-1]) + 1],
    ):
        with pytest.raises(PageTokenInvalid):
            TOKENS.read(other)


@pytest.mark.parametrize("other", [PageTokens(KEY, "sessions"), PageTokens(b"o" * 32, "profiles")])
def test_a_token_of_another_list_or_key_is_refused(other: PageTokens) -> None:
    with pytest.raises(PageTokenInvalid) as raised:
        TOKENS.read(other.make("a"))
    assert [violation.field for violation in raised.value.violations] == ["page_token"]


@pytest.mark.parametrize(("found", "shown", "more"), [(0, 0, False), (3, 3, False), (4, 3, True)])
def test_one_item_too_many_tells_of_a_next_page(found: int, shown: int, *, more: bool) -> None:
    page = TOKENS.page([str(number) for number in range(found)], 3, lambda item: (item,))
    assert len(page.items) == shown
    assert page.has_more == more
    assert TOKENS.read(page.next_page_token) == (("2",) if more else None)
