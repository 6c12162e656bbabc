"""Arms fault points, and fails when one that was armed never fired."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.mesh import faults


@contextmanager
def armed(folder: Path, name: str, do: Any, **more: Any) -> Iterator[None]:
    """Arms a point for the block. Fails at its end unless the point fired as often as it should."""
    fault = faults.Fault(do, **more)
    faults.arm(folder, name, fault)
    try:
        yield
        fired = faults.read(folder, name).fired
        assert fired == fault.times, f"{name} fired {fired} times, not {fault.times}"
    finally:
        (folder / f"{name}.json").unlink()


@contextmanager
def here(folder: Path) -> Iterator[Path]:
    """Lets this process look for its faults in a folder."""
    faults.use(folder)
    try:
        yield folder
    finally:
        faults.use(None)
