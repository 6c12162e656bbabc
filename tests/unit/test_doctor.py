"""The doctor finds the usual troubles, each with what to do."""

from __future__ import annotations

import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest

from services.stack import doctor
from services.stack.doctor import FINE, TROUBLE, WARNING, Finding, Patient
from services.stack.home import Home, Running, State


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    home = Home(tmp_path / "home")
    home.prepare()
    return Patient(home, {})


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    if found[0].state != FINE:
        assert found[0].advice
    return found[0]


def test_a_new_home_is_fine(tmp_path: Path) -> None:
    new = Patient(Home(tmp_path / "not" / "yet"), {})
    assert only(list(doctor.home(new))).state == FINE
    assert list(doctor.old_state(new)) == []


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("")
    found = only(list(doctor.home(Patient(Home(tmp_path / "notes"), {}))))
    assert (found.state, found.words.endswith("is no folder")) == (TROUBLE, True)


def test_secrets_that_others_may_read(patient: Patient) -> None:
    assert only(list(doctor.home(patient))).state == FINE
    path = patient.home / "secrets.json"
    path.write_text("{}")
    path.chmod(0o644)
    found = only(list(doctor.home(patient)))
    assert (found.state, found.advice) == (TROUBLE, f"chmod go-rwx {path}")


@pytest.mark.parametrize(("free", "state"), [(1 << 20, TROUBLE), (1 << 30, WARNING), (1 << 40, FINE)])
def test_a_disk_that_is_full(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 50, 0, free))
    assert only(list(doctor.disk(patient))).state == state


@pytest.mark.parametrize(("soft", "state"), [(256, TROUBLE), (1024, WARNING), (4096, FINE), (-1, FINE)])
def test_few_open_files(patient: Patient, monkeypatch: pytest.MonkeyPatch, soft: int, state: str) -> None:
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda _: (soft, 100_000))
    found = only(list(doctor.limits(patient)))
    assert found.state == state
    assert state == FINE or found.advice == "ulimit -n 65536"


def test_a_clock_that_went_back(patient: Patient) -> None:
    assert only(list(doctor.clock(patient))).state == FINE
    path = patient.home / "state.json"
    path.write_text("{}")
    os.utime(path, (time.time() + 86_400,) * 2)
    assert only(list(doctor.clock(patient))).state == TROUBLE


def test_data_of_another_postgresql_and_without_its_keys(patient: Patient) -> None:
    data = patient.home / "postgres" / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("15\n")
    found = list(doctor.old_state(patient))
    assert [one.state for one in found] == [TROUBLE, TROUBLE, FINE]
    assert "secrets.json" in found[0].words
    assert "PostgreSQL 15" in found[1].words


def test_what_a_killed_start_left(patient: Patient) -> None:
    import psutil

    me = Running(os.getpid(), psutil.Process().create_time())
    patient.home.save_state(State(phase="ready", parts={"redis": me}))
    found = only(list(doctor.old_state(patient)))
    assert (found.state, found.advice) == (WARNING, "Run ./scripts/down.")
    patient.home.save_state(State(phase="ready"))
    assert only(list(doctor.old_state(patient))).state == WARNING
    patient.home.save_state(State())
    assert only(list(doctor.old_state(patient))).state == FINE


def test_a_folder_of_somebody_else_s_things(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    assert only(list(doctor.old_state(Patient(Home(tmp_path), {})))).state == TROUBLE


def test_programs_that_are_missing(patient: Patient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert {one.state for one in doctor.programs(patient)} == {FINE}
    monkeypatch.setattr(doctor.binaries, "redis_server", lambda: tmp_path / "absent")
    bad = [one for one in doctor.programs(patient) if one.state == TROUBLE]
    assert "absent" in only(bad).words


def test_namespaces_that_are_forbidden(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 0)
    monkeypatch.setattr(doctor.binaries.Unprivileged, "namespace_works", lambda _: False)
    assert only(list(doctor.namespaces(patient))).state == WARNING
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert only(list(doctor.namespaces(patient))).state == TROUBLE
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 1000)
    assert list(doctor.namespaces(patient)) == []


def test_an_outside_server_that_is_not_there(patient: Patient) -> None:
    away = Patient(patient.home, {"SAMPAN_REDIS_URL": "redis://127.0.0.1:1", "SAMPAN_NATS_URL": "what"})
    found = list(doctor.outside(away))
    assert [one.state for one in found] == [TROUBLE, TROUBLE]


def test_a_wrong_port_setting(patient: Patient) -> None:
    assert only(list(doctor.edge_port(Patient(patient.home, {"SAMPAN_EDGE_PORT": "x"})))).state == TROUBLE
