"""infra: servers without services."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.support.stack import Stack, free_port


def test_only_the_servers_come_up_and_go_down(private_home: Path) -> None:
    stack = Stack(private_home, free_port())
    up = stack.command("infra", "up", "--detach")
    assert up.returncode == 0, up.stderr
    assert up.stdout.splitlines()[-1].startswith("ready postgres=127.0.0.1:")
    assert set(stack.state.parts) == {"postgres", "redis", "nats"}
    assert stack.command("health", "postgres").returncode == 0
    assert "up already" in stack.command("infra", "up").stdout
    refused = stack.command("up", "--detach")
    assert refused.returncode == 1
    assert "only the servers are up" in refused.stderr
    assert stack.command("migrate", "down-1", "profile").stdout.strip() == "profile is at 0001"
    assert stack.command("migrate", "up-1", "profile").stdout.strip() == "profile is at 0002"
    assert "ready to accept connections" in stack.command("infra", "logs").stdout
    assert stack.command("infra", "down").stdout.strip() == "stopped"
    assert stack.command("infra", "down").stdout.strip() == "were not up"


def test_a_whole_stack_is_left_alone(stack: Stack) -> None:
    done = stack.command("infra", "down")
    assert done.returncode == 1
    assert "the whole stack is up" in done.stderr


def test_the_doctor_says_what_to_do(private_home: Path, stack: Stack) -> None:
    fine = stack.command("doctor")
    assert fine.returncode == 0, fine.stdout
    assert f"{stack.port} is held by this stack" in fine.stdout
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        ill = Stack(private_home, port).command("doctor", "--quiet")
    assert ill.returncode == 1
    assert f"{port} on 127.0.0.1 is taken by" in ill.stdout
    assert "SAMPAN_EDGE_PORT=" in ill.stdout
