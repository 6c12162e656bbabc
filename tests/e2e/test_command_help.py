"""Every command explains itself."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from services.stack.cli import app

COMMANDS = (
    "",
    "up",
    "down",
    "status",
    "health",
    "logs",
    "reset",
    "serve",
    "migrate",
    "migrate up",
    "migrate down",
    "migrate status",
    "db",
    "db url",
    "db shell",
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


# They have subcommands, or need nothing more than their name.
WITHOUT_EXAMPLES = {"", "down", "status", "reset", "serve", "migrate", "db", "infra"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_examples(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="sampan")
    assert done.exit_code == 0
    assert "Usage: sampan" in done.stdout
    assert "Examples:" in done.stdout or command in WITHOUT_EXAMPLES
