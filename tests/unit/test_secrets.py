"""Secrets of a home: made once, complete, and nobody else's to read."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from services.stack import files, secrets
from services.stack.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


def test_secrets_are_readable_by_their_owner_only(home: Home) -> None:
    secrets.load_or_make(home, ["identity"])
    assert (home / secrets.FILE).stat().st_mode & 0o777 == 0o600


def test_a_private_file_is_private_before_it_has_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    opened = os.fdopen

    def look(descriptor: int, mode: str) -> object:
        seen.append(os.fstat(descriptor).st_mode & 0o777)
        return opened(descriptor, mode)

    monkeypatch.setattr(files.os, "fdopen", look)
    before = os.umask(0)
    try:
        files.write_private(tmp_path / "secret", "x")
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_secrets_are_made_once(home: Home) -> None:
    first = secrets.load_or_make(home, ["identity"])
    assert secrets.load_or_make(home, ["identity"]) == first


def test_a_new_service_leaves_the_secrets_of_others_alone(home: Home) -> None:
    first = secrets.load_or_make(home, ["identity"])
    second = secrets.load_or_make(home, ["identity", "payment"])
    assert second.postgres_roles["identity"] == first.postgres_roles["identity"]
    assert second.master_keys["identity"] == first.master_keys["identity"]
    assert second.postgres_roles["payment"]


def test_every_holder_has_its_own_password(home: Home) -> None:
    made = secrets.load_or_make(home, ["identity", "payment"])
    passwords = [
        made.postgres_superuser,
        *made.postgres_roles.values(),
        *made.nats_users.values(),
        *made.redis_users.values(),
    ]
    # The operator listens to the bus, too.
    assert len(passwords) == 1 + 4 + 3 + 2
    assert len(set(passwords)) == len(passwords)
    assert all(len(password) >= 32 and password.isalnum() for password in passwords)


def test_every_service_has_a_master_key_of_its_own_of_32_bytes(home: Home) -> None:
    keys = secrets.load_or_make(home, ["identity", "payment"]).master_keys
    assert keys["identity"] != keys["payment"]
    assert {len(base64.b64decode(key, validate=True)) for key in keys.values()} == {32}


def test_the_sandbox_bank_has_a_secret_of_32_bytes_that_stays(home: Home) -> None:
    first = secrets.load_or_make(home, ["payment"]).provider_keys[secrets.SANDBOX]
    assert len(bytes.fromhex(first)) == 32
    assert secrets.load_or_make(home, ["payment"]).provider_keys == {secrets.SANDBOX: first}


def test_the_master_key_of_a_home_from_before_stays(home: Home) -> None:
    old = {"postgres_superuser": "pw", "postgres_roles": {"identity": "r"}, "identity_master_key": "b2xk"}
    (home / secrets.FILE).write_text(json.dumps(old))
    for _ in range(2):
        found = secrets.load_or_make(home, ["identity"])
        assert found.master_keys["identity"] == "b2xk"
        assert (found.postgres_superuser, found.postgres_roles["identity"]) == ("pw", "r")
    assert "identity_master_key" not in json.loads((home / secrets.FILE).read_text())


def test_replacing_a_file_leaves_no_scratch_behind(tmp_path: Path) -> None:
    files.write_private(tmp_path / "state", "one")
    files.write_private(tmp_path / "state", "two", durable=True)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert (tmp_path / "state").read_text() == "two"
