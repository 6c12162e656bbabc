"""The `sampan` command as people and scripts use it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.stack.topology import PROCESSES, SERVICES
from tests.conftest import own_stack, prepare
from tests.support.stack import ROOT, Stack, free_port, start


@pytest.fixture
def own(private_home: Path) -> Stack:
    """A stack of one test."""
    prepare(private_home)
    return start(private_home, measured=False).commanded


@pytest.fixture(scope="module")
def second() -> Iterator[Stack]:
    """Another stack than that of all tests."""
    with own_stack("second", measured=False) as found:
        yield found.commanded


def not_started(home: Path) -> Stack:
    return Stack(home, free_port())


def test_status_and_health_of_a_stack_that_is_up(stack: Stack) -> None:
    status = stack.command("status")
    assert status.returncode == 0
    assert status.stdout.startswith(f"ready {stack.url}")
    for process in PROCESSES:
        assert process.name in status.stdout
    health = stack.command("health")
    assert health.returncode == 0, health
    assert health.stdout.count("healthy") == len(SERVICES) + 4
    assert stack.command("health", "identity").returncode == 0
    assert stack.command("health", "nothing").returncode == 2


def test_logs_are_shown_by_service(stack: Stack) -> None:
    done = stack.command("logs", "identity", "-n", "5")
    assert done.returncode == 0
    assert 0 < len(done.stdout.splitlines()) <= 5
    assert "supervisor" in stack.command("logs", "--help").stdout


def test_a_database_has_a_url_and_a_shell(stack: Stack) -> None:
    url = stack.command("db", "url", "identity").stdout.strip()
    assert url.startswith("postgresql://identity:")
    assert stack.command("db", "url", "identity", "--owner").stdout.startswith("postgresql://identity_owner:")
    done = subprocess.run(
        [sys.executable, "-m", "services.stack.cli", "db", "shell", "identity"],
        input="select 40 + 2;\n",
        env=stack.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "42" in done.stdout, done.stderr
    assert stack.command("db", "url", "web").returncode != 0


def test_up_when_up_says_where(stack: Stack) -> None:
    done = stack.command("up", "--detach")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == f"ready {stack.url}"


def test_secrets_are_for_their_owner_only(stack: Stack) -> None:
    for path in (stack.home, *stack.home.rglob("*")):
        if path.is_symlink() or "cache" in path.relative_to(stack.home).parts:
            continue
        # PostgreSQL makes and removes files of its own all the time.
        with contextlib.suppress(FileNotFoundError):
            assert not path.lstat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path


def test_no_secret_stands_in_a_command_line_or_a_log(stack: Stack) -> None:
    secrets = stack.addresses.secrets
    values = [
        secrets.postgres_superuser,
        *secrets.master_keys.values(),
        *secrets.postgres_roles.values(),
        *secrets.nats_users.values(),
        *secrets.redis_users.values(),
        *secrets.provider_keys.values(),
    ]
    running = [part.pid for part in stack.state.parts.values()]
    texts = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in running]
    texts += [path.read_bytes() for path in (stack.home / "logs").iterdir()]
    for value in values:
        assert value
        assert not any(value.encode() in text for text in texts)


def test_a_life_up_down_up_and_reset(own: Stack) -> None:
    assert own.command("down").stdout.strip() == "stopped"
    assert own.command("down").stdout.strip() == "was not up"
    for command, code in (("status", 1), ("health", 3)):
        told = own.command(command)
        assert told.returncode == code
        assert told.stderr.splitlines()[-1] == "Start it: ./scripts/up"
    ports = own.state.ports
    again = own.command("up", "--detach")
    assert again.returncode == 0, again.stderr
    assert "./scripts/down" not in again.stderr
    elsewhere = replace(own, port=1).command("up", "--detach")
    assert elsewhere.returncode == 0
    assert "http://127.0.0.1:1, stop it first: ./scripts/down" in elsewhere.stderr
    assert own.state.ports == ports
    behind = own.command("migrate", "down", "identity")
    assert behind.returncode == 0, behind.stderr
    assert own.command("migrate", "status").returncode == 1
    assert own.command("migrate", "up").returncode == 0
    assert own.command("migrate", "status").returncode == 0
    unasked = own.command("reset")
    assert unasked.returncode == 1
    assert "--yes" in unasked.stderr
    assert (own.home / "secrets.json").exists()
    assert own.command("reset", "--yes").returncode == 0
    assert not (own.home / "secrets.json").exists()


def test_a_taken_port_is_named_with_what_to_do(private_home: Path) -> None:
    stack = not_started(private_home)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stack.port))
        taken.listen()
        done = stack.command("up", "--detach")
    assert done.returncode != 0
    assert "envoy" in done.stderr
    assert str(stack.port) in done.stderr
    assert "SAMPAN_EDGE_PORT" in done.stderr
    assert stack.command("status").returncode == 1


def test_an_outside_server_that_is_away_is_named(private_home: Path) -> None:
    stack = not_started(private_home)
    done = subprocess.run(
        [sys.executable, "-m", "services.stack.cli", "up", "--detach"],
        env=stack.environment({"SAMPAN_REDIS_URL": "nonsense"}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "redis" in done.stderr
    assert "SAMPAN_REDIS_URL" in done.stderr


def test_in_the_foreground_it_runs_until_ctrl_c(private_home: Path) -> None:
    stack = not_started(private_home)
    process = subprocess.Popen(
        [sys.executable, "-m", "services.stack.cli", "up"],
        env=stack.environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready "):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "stopped" in out
    assert stack.command("status").returncode == 1


def test_nothing_holds_the_caller_s_output(private_home: Path) -> None:
    prepare(private_home)
    own = not_started(private_home)
    # With a pipe to cat, this ends only if nobody else keeps the pipe open.
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m services.stack.cli up --detach 2>&1 | cat"],
        env=own.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == f"ready {own.url}"


def test_two_stacks_run_side_by_side(stack: Stack, second: Stack) -> None:
    assert stack.command("health").returncode == 0
    assert second.command("health").returncode == 0
    assert not set(stack.state.ports.values()) & set(second.state.ports.values())


def test_services_can_be_served_by_hand(second: Stack) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "services.stack.cli", "serve", "identity"],
        env=second.environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    deadline = time.monotonic() + 30
    said = ""
    for line in process.stdout:
        said += line
        if "server.started" in line or time.monotonic() > deadline:
            break
    assert "server.started" in said
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert second.command("serve", "nothing").returncode == 2


def test_what_a_killed_supervisor_leaves_is_cleared_and_it_starts_again(second: Stack) -> None:
    supervisor = second.state.supervisor
    assert supervisor is not None
    parts = [part.pid for part in second.state.parts.values()]
    os.kill(supervisor.pid, signal.SIGKILL)
    done = second.command("up", "--detach")
    assert done.returncode == 0, done.stderr
    assert not set(parts) & {part.pid for part in second.state.parts.values()}
