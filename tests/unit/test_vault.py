"""What is sealed opens only with its key and only in its place."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.personal import PersonKeys
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


def test_what_is_sealed_for_a_person_is_what_it_always_was() -> None:
    """Rows that were written long ago: the layout and the names of places stay."""
    vault, person_id = Vault(bytes(32)), uuid.UUID(int=7)
    data_key = bytes(range(32))
    wrapped = vault.wrap(data_key, f"person_keys.wrapped:{person_id}")
    person = PersonKeys(vault).find(person_id, wrapped)
    assert person is not None
    assert person.unseal(seal(data_key, 1, b"+66812345678", "a place"), "a place") == "+66812345678"
    assert unseal(data_key, person.seal("text", "a place"), "a place") == b"text"


def test_a_person_s_key_opens_nothing_of_another_and_is_not_shown() -> None:
    keys = PersonKeys(Vault(bytes(32)))
    ann, ben = keys.new(uuid.uuid4()), keys.new(uuid.uuid4())
    with pytest.raises(SealBroken):
        ben.unseal(ann.seal("text", "a place"), "a place")
    with pytest.raises(SealBroken):
        keys.find(ben.person_id, ann.wrapped)
    assert keys.find(ann.person_id, None) is None
    assert "data_key" not in repr(ann)
