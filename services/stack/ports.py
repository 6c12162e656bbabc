"""Loopback ports that stay: picked free outside the kernel's ephemeral range and kept between starts."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from services.stack.errors import StackError

LOOPBACK = "127.0.0.1"
PREFERRED = range(10_000, 30_000)
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def ephemeral_range(source: Path = EPHEMERAL) -> range:
    """Ports of outgoing connections: a listener there may find its own in use at a restart."""
    try:
        low, high = map(int, source.read_text().split())
    except (OSError, ValueError):
        return range(32_768, 61_000)
    return range(low, high + 1)


def candidates(ephemeral: range, start: int = 0) -> Sequence[int]:
    """Ports to try in order, beginning at a place that differs from home to home."""
    outside = [port for port in PREFERRED if port not in ephemeral]
    if len(outside) < 100:
        outside = [port for port in range(1_024, 65_536) if port not in ephemeral] or list(PREFERRED)
    offset = start % len(outside)
    return outside[offset:] + outside[:offset]


def is_free(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose old connections linger in TIME_WAIT is free to listen on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def assign(
    names: Iterable[str],
    remembered: dict[str, int],
    *,
    seed: str = "",
    taken: Iterable[int] = (),
    free: Callable[[int], bool] = is_free,
    ephemeral: range | None = None,
) -> dict[str, int]:
    """A port for each name: its remembered one if that is still free, else a new one."""
    wanted = list(names)
    used = set(taken)
    result: dict[str, int] = {}
    for name in wanted:
        port = remembered.get(name)
        if port is not None and port not in used and free(port):
            result[name] = port
            used.add(port)
    # Other names' remembered ports are left to them: they may be down for the moment.
    used.update(port for name, port in remembered.items() if name not in result)
    pool = iter(candidates(ephemeral_range() if ephemeral is None else ephemeral, zlib.crc32(seed.encode())))
    for name in wanted:
        if name not in result:
            result[name] = next_free(pool, used, free)
            used.add(result[name])
    return result


def next_free(pool: Iterable[int], used: set[int], free: Callable[[int], bool]) -> int:
    for port in pool:
        if port not in used and free(port):
            return port
    raise StackError("ports", "no free port on 127.0.0.1 outside the ephemeral range", "Stop other stacks.")
