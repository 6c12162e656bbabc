"""`sampan bench` from beginning to end: that it measures, not how fast."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.stack import ROOT, environment
from tests.support.waiting import until


@pytest.mark.long
def test_quick_edge_suite_writes_all_figures(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "services.stack.cli", "bench", "edge", "--quick"),
            *("--json", str(tmp_path / "figures.json"), "--chart", str(tmp_path / "figures.svg")),
        ],
        env=environment(tmp_path / "home", 1),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    figures = {figure["name"]: figure for figure in json.loads((tmp_path / "figures.json").read_text())}
    assert {name: figures[name]["limit_name"] for name in figures if figures[name]["limit_name"]} == {
        "edge.unary": "echo",
        "edge.unary_32": "echo_32",
        "edge.getme": "chain_echo",
        "edge.rest_getme": "envoy_echo",
    }
    assert all(figure["value"] > 0 for figure in figures.values())
    assert {"echo", "envoy_echo", "stack.memory", "stack.idle_cpu"} <= set(figures)
    assert (tmp_path / "figures.svg").read_text().startswith("<svg")
    # The private stack is gone; the caller's home was not touched.
    assert not (tmp_path / "home").exists()


@pytest.mark.long
def test_quick_messaging_suite_writes_all_figures(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "services.stack.cli", "bench", "messaging", "--quick"),
            *("--json", str(tmp_path / "figures.json")),
        ],
        env=environment(tmp_path / "home", 1),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    figures = {figure["name"]: figure for figure in json.loads((tmp_path / "figures.json").read_text())}
    assert {name: figures[name]["limit_name"] for name in figures if figures[name]["limit_name"]} == {
        "messaging.send_unary": "chain_echo",
        "messaging.send_unary_32": "chain_echo_32",
        "messaging.send_connect": "chain_echo",
        "messaging.fanout_1": "stream_writes",
        "messaging.fanout_100": "stream_writes",
        "messaging.fanout_1000": "stream_writes",
    }
    assert all(figure["value"] > 0 for figure in figures.values())
    assert {
        "messaging.delivery_1000_at_once",
        "messaging.delivery_1000_at_once_websocket",
        "messaging.idle_1000.chat",
        "messaging.idle_1000.envoy",
    } <= set(figures)
    assert not (tmp_path / "home").exists()


@pytest.mark.long
def test_quick_payment_suite_writes_all_figures(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "services.stack.cli", "bench", "payment", "--quick"),
            *("--json", str(tmp_path / "figures.json")),
        ],
        env=environment(tmp_path / "home", 1),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    figures = {figure["name"]: figure for figure in json.loads((tmp_path / "figures.json").read_text())}
    assert {name: figures[name]["limit_name"] for name in figures if figures[name]["limit_name"]} == {
        "payment.send_unary": "chain_echo",
        "payment.send_unary_32": "chain_echo_32",
        "payment.send_unary_pgbench": "pgbench_tpcb",
        "payment.hot_wallet": "payment.send_unary",
        "payment.batch": "pgbench_tpcb",
    }
    assert all(figure["value"] > 0 and figure["p99_ms"] > 0 for figure in figures.values())
    assert not (tmp_path / "home").exists()


async def test_a_benchmark_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    bench = psutil.Popen(
        [sys.executable, "-m", "services.stack.cli", "bench", "edge", "--quick", "--only", "edge.unary"],
        env=environment(tmp_path / "home", 1) | {"TMPDIR": str(tmp_path)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    async def has_a_stack() -> bool:
        return len(bench.children(recursive=True)) > 10

    await until(has_a_stack, True, within=60)
    theirs = bench.children(recursive=True)
    bench.kill()
    bench.wait()
    _, left = await asyncio.to_thread(psutil.wait_procs, theirs, timeout=30)
    assert not left
