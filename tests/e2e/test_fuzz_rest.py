"""The public surface keeps to openapi.json whatever it is sent: no server error, nothing undocumented."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import shared_stack
from tests.support.clients import Clients
from tests.support.stack import ROOT, Stack

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
ALIASES = r"_\d+$"


@pytest.fixture(scope="module")
def fuzzed() -> Stack:
    """A stack whose rate limits are far off: they would answer everything."""
    return shared_stack("fuzz", {"SAMPAN_RATE_LIMIT_SCALE": "100000"}, hasty=True, measured=False)


async def admin_token(stack: Stack) -> str:
    async with Clients.of(stack) as clients:
        person = await clients.register()
        assert stack.command("admin", "grant", person.username).returncode == 0
        body = {"username": person.username, "password": person.password}
        token: str = (await clients.rest.call("POST", "/v1/auth/login", body)).body["access_token"]
    return token


def fuzz(stack: Stack, token: str, folder: Path, *options: str, timeout: float) -> dict[str, Any]:
    """Runs schemathesis with the token; returns its report. Left out is what would end it, or has no end."""
    report = folder / "report.json"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            str(ROOT / "gen" / "openapi.json"),
            f"--url={stack.url}",
            f"--header=Authorization: Bearer {token}",
            f"--checks={','.join(CHECKS)}",
            "--exclude-operation-id=Identity_Logout",
            "--exclude-operation-id=Messaging_Subscribe",
            "--generation-database=none",
            "--warnings=off",
            "--no-color",
            f"--report-json-path={report}",
            *options,
        ],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(report.read_text())
    return found


async def test_the_public_surface_does_what_it_says(fuzzed: Stack, tmp_path: Path) -> None:
    token = await admin_token(fuzzed)
    report = fuzz(
        fuzzed,
        token,
        tmp_path,
        "--phases=coverage,fuzzing",
        "--max-examples=5",
        "--seed=1",
        f"--exclude-operation-id-regex={ALIASES}",
        # It took 40 s, and over 120 s on a busy machine. The token lives 15 minutes.
        timeout=800,
    )
    assert report["operations"]["tested"] == report["operations"]["selected"] > 20
    assert report["test_cases"]["generated"] > 500
    rates = report["valid_rates"].values()
    assert sum(any(phase["accepted"] for phase in rate.values()) for rate in rates) > 3, rates


@pytest.mark.long
async def test_the_public_surface_and_its_aliases_do_what_they_say(fuzzed: Stack, tmp_path: Path) -> None:
    token = await admin_token(fuzzed)
    # Inferred links end sessions, that of this token among them.
    report = fuzz(fuzzed, token, tmp_path, "--phases=coverage,fuzzing", "--max-examples=100", timeout=900)
    assert report["operations"]["tested"] > 35
