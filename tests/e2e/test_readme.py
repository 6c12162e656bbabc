"""Every example of the README works as it stands."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.stack import ROOT, Stack

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_there_are_examples_for_every_door() -> None:
    text = "".join(body for _, body in BLOCKS)
    for door in (
        *("curl -sS", "--protocol grpc ", "--protocol grpcweb", "IdentityServiceStub"),
        *("/v1/events", "text/event-stream", "/websocket"),
    ):
        assert door in text


@pytest.mark.xdist_group("readme")
def test_the_examples_of_the_readme_work(stack: Stack) -> None:
    script = "set -euo pipefail\n" + "".join(body for kind, body in BLOCKS if kind == "sh")
    done = subprocess.run(
        ["bash", "-c", script.replace("127.0.0.1:8080", f"127.0.0.1:{stack.port}")],
        cwd=ROOT,
        env=stack.environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"ready http://127.0.0.1:{stack.port}" in done.stdout
    assert done.stdout.count("Somchai") >= 4
    assert "TOKEN_MISSING" in done.stdout
    # A first frame as a line of JSON, and as an event of SSE.
    assert re.search(r'^\{"resume":"[^"]+",.*"live":true', done.stdout, re.MULTILINE)
    assert re.search(r'^data: \{"resume":"[^"]+",.*"live":true', done.stdout, re.MULTILINE)
    assert '"outcome": "credited"' in done.stdout
    assert '"balance":"25000"' in done.stdout
    assert done.stdout.count("malee: Is the batik ready?") == 2
    assert done.stdout.count("siti: It is, come by.") == 2
    python = "".join(body for kind, body in BLOCKS if kind == "python")
    said = subprocess.run(
        [sys.executable, "-c", python.replace("127.0.0.1:8080", f"127.0.0.1:{stack.port}")],
        cwd=ROOT,
        env=stack.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    name, frame = said.stdout.splitlines()
    assert name == "Somchai", said.stderr
    assert '"live":true' in frame, said.stderr
