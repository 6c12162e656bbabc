"""A stack that tests may hurt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RUN, own_stack
from tests.support import parts
from tests.support.stack import Stack


@pytest.fixture(scope="session")
def hurt_by() -> str:
    """The process whose tests hurt a stack: only one at a time may."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture(scope="session")
def folder(hurt_by: str) -> Path:
    """Where fault points of that stack are armed."""
    found = Path(os.environ[RUN]) / f"faults-{hurt_by}"
    found.mkdir(exist_ok=True)
    return found


@pytest.fixture(scope="package")
def hurt_stack(hurt_by: str, folder: Path) -> Iterator[Stack]:
    """The stack: made once for each process of a run, since what was killed comes back by itself. It goes
    with the last of these tests.

    It lets people register faster than people do, and its sweeper gives up on a dead one soon.
    """
    extra = {
        "SAMPAN_RATE_LIMIT_SCALE": "1000",
        "SAMPAN_FAULTS": str(folder),
        "SAMPAN_PAYMENT_SWEEP_SECONDS": "0.2",
        "SAMPAN_PAYMENT_SWEEP_IDLE_SECONDS": "0.2",
        "SAMPAN_PAYMENT_SWEEP_LEASE_SECONDS": "1",
        "SAMPAN_PAYMENT_INQUIRY_SECONDS": "0.5",
    }
    with own_stack(f"hurt-{hurt_by}", extra, measured=False) as found:
        yield found


@pytest.fixture
async def victim(hurt_stack: Stack) -> Stack:
    """That stack, when what the test before has hurt is well again."""
    await parts.well(hurt_stack, within=60)
    return hurt_stack
