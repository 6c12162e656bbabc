"""Rules of workspace: who may do what to whom, and which names are the same."""

from __future__ import annotations

import uuid

import pytest

from services.mesh.vault import Vault, new_key
from services.workspace.domain import (
    ChannelChanges,
    Role,
    WorkspaceChanges,
    may_change_channel,
    name_key,
    normal_name,
)
from services.workspace.invites import Codes
from services.workspace.settings import WorkspaceSettings

MEMBER, ADMIN, OWNER = Role.MEMBER, Role.ADMIN, Role.OWNER


@pytest.mark.parametrize(
    ("actor", "removed"),
    [(OWNER, {ADMIN, MEMBER}), (ADMIN, {MEMBER}), (MEMBER, set())],
    ids=lambda one: getattr(one, "word", None),
)
def test_each_role_removes_those_below_it_and_a_member_nobody(actor: Role, removed: set[Role]) -> None:
    assert {other for other in Role if actor.may_remove(other)} == removed


def test_words_of_roles_are_those_of_the_contract() -> None:
    assert [role.word for role in Role] == ["member", "admin", "owner"]
    assert [Role.of(role.word) for role in Role] == list(Role)


def test_a_channel_is_changed_by_its_maker_and_by_who_manages() -> None:
    maker, other = uuid.uuid4(), uuid.uuid4()
    assert may_change_channel(MEMBER, maker, maker)
    assert not may_change_channel(MEMBER, other, maker)
    assert may_change_channel(ADMIN, other, maker)
    assert may_change_channel(OWNER, other, maker)


@pytest.mark.parametrize("same", ["General", " general ", "GENERAL", "ｇｅｎｅｒａｌ"])
def test_names_that_people_take_for_the_same_are_the_same(same: str) -> None:
    assert name_key(same) == name_key("general")


@pytest.mark.parametrize("other", ["generál", "general-2", "ทั่วไป"])
def test_other_names_are_others(other: str) -> None:
    assert name_key(other) != name_key("general")


def test_a_name_is_kept_without_spaces_around_it() -> None:
    assert normal_name("  Durian lovers ") == "Durian lovers"


def test_only_what_is_given_is_changed() -> None:
    assert WorkspaceChanges().columns == {}
    assert WorkspaceChanges(description="").columns == {"description": ""}
    assert ChannelChanges(is_private=False).columns == {"is_private": False}
    assert ChannelChanges(name=" A ").columns == {"name": "A", "name_key": "a"}


def test_a_code_has_160_bits_is_always_the_same_and_is_not_what_is_stored() -> None:
    key, invite_id = new_key(), uuid.uuid4()
    codes = Codes(Vault(key))
    code = codes.of(invite_id)
    assert len(code) == 27
    assert code == Codes(Vault(key)).of(invite_id)
    assert code not in {codes.of(uuid.uuid4()), Codes(Vault(new_key())).of(invite_id)}
    assert code.encode() not in codes.hash(code)
    assert codes.hash(code) != Codes(Vault(new_key())).hash(code)


def test_a_lease_that_ends_before_the_call_it_covers_is_refused() -> None:
    with pytest.raises(ValueError, match="lease_seconds"):
        WorkspaceSettings(
            tls_cert="x",
            tls_key="x",
            tls_ca="x",
            database_url="postgresql://x",
            master_key="x",
            tell_seconds=2,
            lease_seconds=2,
        )
