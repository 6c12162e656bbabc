"""test: the tests of one context or of one kind."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from services.stack.commands.console import replace_process, told_errors
from services.stack.errors import StackError
from services.stack.paths import ROOT

TESTS = ROOT / "tests"


def run_tests(
    what: Annotated[
        str, typer.Argument(help="A context such as identity, or a kind such as unit; default: all.")
    ] = "",
    options: Annotated[list[str] | None, typer.Argument(help="Options of pytest, after --.")] = None,
) -> None:
    """Run tests, on a stack of their own beside yours.

    \b
    Examples:
      sampan test
      sampan test identity
      sampan test unit -- -k ports
    """
    with told_errors():
        chosen = files_of(what) if what else []
        command = (str(ROOT / "scripts" / "test"), *chosen, *(options or ()))
        replace_process(command, os.environ, ROOT)


def files_of(what: str) -> list[str]:
    """Test files of a kind (a folder) or of a context (by their names)."""
    if (TESTS / what).is_dir() and what.isidentifier():
        return [f"tests/{what}"]
    found = sorted(str(path.relative_to(ROOT)) for path in TESTS.glob("*/test_*.py") if what in path.stem)
    if not found:
        kinds = sorted(path.parent.name for path in TESTS.glob("*/conftest.py"))
        raise StackError(
            "test", f"no test file is named after {what}", f"Kinds are {', '.join(kinds)}, unit."
        )
    return found
