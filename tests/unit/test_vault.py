"""What is sealed opens only with its key and only in its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.vault import SealBroken, Vault, keyed_hash, new_key, seal, unseal


@given(st.binary(max_size=500))
def test_a_value_comes_back(value: bytes) -> None:
    key = new_key()
    sealed = seal(key, 7, value, "table.column:1")
    assert unseal(key, sealed, "table.column:1") == value
    assert sealed[0] == 7
    assert len(value) < 8 or value not in sealed


def test_another_place_another_key_or_a_changed_byte_breaks_the_seal() -> None:
    key = new_key()
    sealed = seal(key, 1, b"secret", "a:1")
    for broken_key, broken, place in (
        (key, sealed, "a:2"),
        (new_key(), sealed, "a:1"),
        (key, sealed[:-1] + bytes((sealed[-1] ^ 1,)), "a:1"),
        (key, sealed[:5], "a:1"),
    ):
        with pytest.raises(SealBroken):
            unseal(broken_key, broken, place)


def test_keys_of_different_purposes_differ_and_stay() -> None:
    master = new_key()
    assert Vault(master).derive("a") == Vault(master).derive("a")
    assert Vault(master).derive("a") != Vault(master).derive("b")
    assert Vault(master).derive("a") != Vault(new_key()).derive("a")


def test_a_wrapped_key_opens_under_its_master_only() -> None:
    vault, data_key = Vault(new_key()), new_key()
    wrapped = vault.wrap(data_key, "p:1")
    assert vault.unwrap(wrapped, "p:1") == data_key
    with pytest.raises(SealBroken):
        Vault(new_key()).unwrap(wrapped, "p:1")


def test_a_master_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(b"short")


def test_parts_of_a_hash_cannot_run_into_each_other() -> None:
    key = new_key()
    assert keyed_hash(key, "ab", "c") != keyed_hash(key, "a", "bc")
