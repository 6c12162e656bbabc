"""SAMPAN_HOME: private, held by one supervisor, and never a folder that is someone else's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.stack.errors import StackError
from services.stack.home import FOLDERS, READY, STARTING, Home, Running, State


def test_a_home_is_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    home.prepare()
    assert {(home / name).stat().st_mode & 0o777 for name in FOLDERS} == {0o700}
    assert home.root.stat().st_mode & 0o777 == 0o700


def test_the_folder_above_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    Home(tmp_path / "home").prepare()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_an_empty_folder_may_become_a_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Home(tmp_path).prepare()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_folder_with_other_things_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(StackError, match="not Sampan's"):
        Home(tmp_path).prepare()
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_home_below_a_file_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="SAMPAN_HOME"):
        Home(tmp_path / "file" / "home").prepare()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    assert not home.held()
    lock = home.hold()
    assert lock is not None
    assert home.hold() is None
    assert home.held()
    lock.release()
    assert not home.held()


def test_claiming_a_home_hides_what_its_killed_holder_said(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    home.save_state(State(phase=READY, supervisor=Running(1, 2.0), parts={"redis": Running(3, 4.0)}))
    lock = home.claim()
    assert lock is not None
    state = home.load_state()
    assert (state.phase, state.supervisor) == (STARTING, None)
    assert state.parts == {"redis": Running(3, 4.0)}
    lock.release()


def test_state_survives_and_a_damaged_one_is_no_obstacle(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    state = State(phase=READY, edge="http://127.0.0.1:1", ports={"redis": 12_000}, supervisor=Running(1, 2.5))
    home.save_state(state)
    assert home.load_state() == state
    (home / "state.json").write_text("{")
    assert home.load_state() == State()


def test_erasing_leaves_what_others_put_there(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    (home / "notes.txt").touch()
    home.erase()
    assert [path.name for path in home.root.iterdir()] == ["notes.txt"]


async def test_waiting_for_another_start_ends_when_it_is_ready_or_gone(tmp_path: Path) -> None:
    from services.stack.launch import wait_until_settled

    home = Home(tmp_path / "home")
    home.prepare()
    lock = home.claim()
    assert lock is not None
    waiting = asyncio.create_task(wait_until_settled(home))
    home.save_state(State(phase=READY, edge="http://127.0.0.1:2"))
    found = await waiting
    assert found is not None
    assert found.edge == "http://127.0.0.1:2"
    lock.release()
    assert await wait_until_settled(home) is None
