"""Who sees what of a profile, who may change it, and what a change is."""

from __future__ import annotations

import uuid

import pytest

from services.profile.domain import BankAccount, Changes, Viewer, normal_name

OWNER = uuid.uuid4()


@pytest.mark.parametrize(
    ("viewer", "sees", "may"),
    [
        (Viewer(OWNER), True, True),
        (Viewer(OWNER, is_admin=True), True, True),
        (Viewer(uuid.uuid4(), is_admin=True), False, True),
        (Viewer(uuid.uuid4()), False, False),
    ],
)
def test_only_the_owner_sees_bank_details_and_an_administrator_may_change(
    viewer: Viewer, *, sees: bool, may: bool
) -> None:
    assert viewer.sees_bank_of(OWNER) == sees
    assert viewer.may_change(OWNER) == may


def test_what_is_left_out_does_not_change_and_what_is_empty_is_cleared() -> None:
    assert (Changes().shown, Changes().bank) == ({}, {})
    changes = Changes(bio="", bank_account_number="")
    assert changes.shown == {"bio": ""}
    assert changes.bank == {"bank_account_number": ""}


def test_a_name_is_kept_without_spaces_around_it() -> None:
    assert normal_name("  Somchai ใจดี\u3000") == "Somchai ใจดี"


def test_bank_details_are_not_in_reprs() -> None:
    assert "123-4" not in repr(BankAccount("Bank", "Somchai", "123-4"))
    assert "123-4" not in repr(Changes(bank_account_number="123-4"))
