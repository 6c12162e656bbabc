"""try, seed and migrate: what people do all day, on a stack that is up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import shared_stack
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def tried() -> Stack:
    """A stack whose rate limits are far off: these calls share one address with others."""
    found = shared_stack("fuzz", {"SAMPAN_RATE_LIMIT_SCALE": "100000"}, hasty=True, measured=False)
    return found.commanded


def test_ready_made_calls_are_shown_as_curl_with_their_answers(tried: Stack) -> None:
    registered = tried.command("try", "register", "username=tester")
    assert registered.returncode == 0, registered.stderr
    assert registered.stdout.startswith(f"$ curl -sS -X POST {tried.url}/v1/auth/register")
    assert "\nHTTP 201\nlocation: /v1/me\n" in registered.stdout
    me = tried.command("try", "me")
    assert '-H "authorization: Bearer $TOKEN"' in me.stdout
    assert '"username": "tester"' in me.stdout
    assert tried.command("try", "login", "username=tester").returncode == 0
    assert tried.command("try", "refresh").returncode == 0
    made = tried.command("try", "create-profile", "display_name=Tester")
    assert '"display_name": "Tester"' in made.stdout
    assert (tried.home / "run" / "try.json").stat().st_mode & 0o077 == 0


def test_a_call_that_is_refused_or_unknown_fails(tried: Stack) -> None:
    refused = tried.command("try", "login", "username=nobody.here")
    assert refused.returncode == 1
    assert "INVALID_CREDENTIALS" in refused.stdout
    assert "knows no call" in tried.command("try", "nothing").stderr
    assert "has no field" in tried.command("try", "login", "name=x").stderr
    assert "id is missing" in tried.command("try", "get-profile").stderr
    assert "create-profile" in tried.command("try", "--help").stdout
    assert "/v1/auth/login" in tried.command("try", "--list").stdout


def test_a_call_that_needs_a_sign_in_says_so_before_there_is_one(tried: Stack, tmp_path: Path) -> None:
    # Behind the same edge, but with a home that remembers nobody.
    stranger = Stack(tmp_path, tried.port)
    asked = stranger.command("try", "me")
    assert asked.returncode == 1
    assert "nobody is signed in" in asked.stderr
    assert "sampan try login" in asked.stderr


def test_a_home_without_a_stack_is_told_what_to_do(tried: Stack, tmp_path: Path) -> None:
    nowhere = Stack(tmp_path / "nowhere", tried.port)
    for command in (
        ("seed",),
        ("try", "register"),
        ("bank", "pay", "x"),
        ("chat", "--as", "a", "--with", "b"),
    ):
        asked = nowhere.command(*command)
        assert asked.returncode == 1, command
        assert "Run ./scripts/up first." in asked.stderr, command


def test_a_revision_that_there_is_not_is_no_traceback(tried: Stack) -> None:
    asked = tried.command("migrate", "down", "identity", "--to", "zzz")
    assert asked.returncode == 1
    assert "cannot go to zzz" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_seeding_twice_is_seeding_once(tried: Stack) -> None:
    first = tried.command("seed")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("made\n") == 5
    again = tried.command("seed")
    assert again.stdout.count("was there\n") == 5
    assert again.stdout.replace("was there", "made") == first.stdout.replace("was there", "made")


def test_migrations_are_told_and_written(tried: Stack, tmp_path: Path) -> None:
    version = tried.command("migrate", "version", "profile")
    assert version.stdout.startswith("profile 00")
    before = version.stdout.split()[1]
    made = tried.command("migrate", "create", "profile", "add colours", "--into", str(tmp_path))
    assert made.returncode == 0, made.stderr
    path = Path(made.stdout.splitlines()[-1])
    assert path.name == f"{int(before) + 1:04}_add_colours.py"
    # Models and migrations agree, so there is nothing to do.
    assert "op." not in path.read_text().partition("def upgrade")[2]
    assert "0001" not in tried.command("migrate", "up-1", "identity").stdout


def test_only_tests_of_what_is_asked_for_are_run(stack: Stack) -> None:
    from services.stack.commands.testing import files_of
    from services.stack.errors import StackError

    assert files_of("unit") == ["tests/unit"]
    assert "tests/integration/test_profile.py" in files_of("profile")
    with pytest.raises(StackError):
        files_of("nothing-of-the-kind")
    assert "no test file" in stack.command("test", "nothing").stderr
