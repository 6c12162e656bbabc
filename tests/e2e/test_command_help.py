"""Every command explains itself."""

from __future__ import annotations

import pytest

from tests.support.stack import Stack

COMMANDS = (
    "admin grant",
    "admin restore",
    "admin suspend",
    "admin tier",
    "analytics rebuild",
    "backup",
    "chat",
    "doctor",
    "infra",
    "infra down",
    "infra logs",
    "infra up",
    "metrics",
    "payment reconcile",
    "payment held",
    "payment resolve",
    "bank pay",
    "migrate create",
    "migrate down-1",
    "migrate up-1",
    "migrate version",
    "restore",
    "seed",
    "test",
    "top",
    "try",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_examples(stack: Stack, command: str) -> None:
    done = stack.command(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage: sampan" in done.stdout
    assert "Examples:" in done.stdout or command == "infra"
