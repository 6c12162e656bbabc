"""Rules of identity."""

from __future__ import annotations

import pytest

from services.identity.domain import normal_email, normal_phone, normal_username
from services.identity.passwords import Passwords, is_common


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("+66812345678", "+66812345678"),
        ("+6591234567", "+6591234567"),
        ("+6281234567890", "+6281234567890"),
        ("+60123456789", "+60123456789"),
        ("+639171234567", "+639171234567"),
        ("+84912345678", "+84912345678"),
        ("+66 81 234 5678", "+66812345678"),
        ("+6600000000", None),
        ("0812345678", None),
        ("nonsense", None),
    ],
)
def test_phone_numbers(given: str, wanted: str | None) -> None:
    assert normal_phone(given) == wanted


def test_names_and_addresses_are_compared_in_lower_case() -> None:
    assert normal_email(" Ann@Example.COM ") == "ann@example.com"
    assert normal_username(" Ann ") == "ann"


def test_common_passwords_are_known_in_any_case() -> None:
    assert is_common("Password1")
    assert not is_common("correct horse battery staple")


async def test_passwords_verify_and_old_hashes_are_outdated() -> None:
    import bcrypt

    passwords = Passwords(memory_kib=64, passes=1, lanes=1, threads=1)
    hashed = await passwords.hash("open sesame")
    assert hashed.startswith("$argon2id$")
    assert await passwords.verify(hashed, "open sesame")
    assert not await passwords.verify(hashed, "open sesam")
    assert not await passwords.verify(None, "open sesame")
    assert not await passwords.verify("not a hash", "open sesame")
    assert not passwords.is_outdated(hashed)
    old = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
    assert await passwords.verify(old, "open sesame")
    assert passwords.is_outdated(old)
    stronger = Passwords(memory_kib=128, passes=1, lanes=1, threads=1)
    assert stronger.is_outdated(hashed)
