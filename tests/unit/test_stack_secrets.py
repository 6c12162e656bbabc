"""Secrets of a home: made once, kept, and read from older homes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from services.stack.home import Home
from services.stack.secrets import FILE, load_or_make


def test_every_service_gets_a_master_key_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    made = load_or_make(Home(tmp_path), ["identity"]).master_keys["identity"]
    later = load_or_make(Home(tmp_path), ["identity", "notification"]).master_keys
    assert later["identity"] == made != later["notification"]
    assert {len(base64.b64decode(key)) for key in later.values()} == {32}
    assert load_or_make(Home(tmp_path), ["identity", "notification"]).master_keys == later
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_the_key_of_a_home_from_before_stays(tmp_path: Path) -> None:
    old = {"postgres_superuser": "pw", "postgres_roles": {"identity": "r"}, "identity_master_key": "b2xk"}
    (tmp_path / FILE).write_text(json.dumps(old))
    for _ in range(2):
        found = load_or_make(Home(tmp_path), ["identity"])
        assert found.master_keys["identity"] == "b2xk"
        assert (found.postgres_superuser, found.postgres_roles["identity"]) == ("pw", "r")
    assert "identity_master_key" not in json.loads((tmp_path / FILE).read_text())
