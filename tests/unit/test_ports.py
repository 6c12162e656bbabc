"""Ports of the stack: free, stable, and out of the way of outgoing connections."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from services.stack import ports
from services.stack.errors import StackError

EPHEMERAL = range(32_768, 61_000)


def every_port_is_free(port: int) -> bool:
    return True


def test_ports_are_outside_the_ephemeral_range() -> None:
    inside = range(10_000, 29_000)
    found = ports.assign(["a", "b", "c"], {}, free=every_port_is_free, ephemeral=inside)
    assert all(port not in inside for port in found.values())


def test_an_ephemeral_range_over_all_preferred_ports_leaves_others() -> None:
    wide = range(1_024, 50_000)
    assert ports.assign(["a"], {}, free=every_port_is_free, ephemeral=wide)["a"] >= 50_000


def test_each_name_has_its_own_port() -> None:
    names = [f"part-{number}" for number in range(50)]
    found = ports.assign(names, {}, free=every_port_is_free, ephemeral=EPHEMERAL)
    assert len(set(found.values())) == len(names)


def test_a_remembered_port_is_kept() -> None:
    found = ports.assign(["a", "b"], {"b": 12_345}, free=every_port_is_free, ephemeral=EPHEMERAL)
    assert found["b"] == 12_345
    assert found["a"] != 12_345


def test_a_remembered_port_that_is_taken_is_replaced() -> None:
    found = ports.assign(["a"], {"a": 12_345}, free=lambda port: port != 12_345, ephemeral=EPHEMERAL)
    assert found["a"] != 12_345


def test_ports_remembered_for_others_are_left_to_them() -> None:
    first = ports.assign(["a"], {}, seed="home", free=every_port_is_free, ephemeral=EPHEMERAL)["a"]
    found = ports.assign(["b"], {"a": first}, seed="home", free=every_port_is_free, ephemeral=EPHEMERAL)
    assert found["b"] != first


def test_two_homes_begin_at_different_ports() -> None:
    found = {
        ports.assign(["a"], {}, seed=home, free=every_port_is_free, ephemeral=EPHEMERAL)["a"]
        for home in ("/one", "/two", "/three")
    }
    assert len(found) == 3


def test_no_free_port_is_an_error_that_says_so() -> None:
    with pytest.raises(StackError, match="no free port"):
        ports.assign(["a"], {}, free=lambda port: port < 0, ephemeral=EPHEMERAL)


def test_a_port_with_a_listener_is_not_free() -> None:
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_the_kernel_is_asked_for_its_range(tmp_path: Path) -> None:
    source = tmp_path / "ip_local_port_range"
    source.write_text("20000\t20009\n")
    assert ports.ephemeral_range(source) == range(20_000, 20_010)


def test_without_the_kernels_word_the_usual_range_is_assumed(tmp_path: Path) -> None:
    assert 40_000 in ports.ephemeral_range(tmp_path / "absent")
