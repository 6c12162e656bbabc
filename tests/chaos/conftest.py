"""A stack that tests may hurt."""

from __future__ import annotations

import pytest

from tests.conftest import shared_stack
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def victim() -> Stack:
    """A stack that no gentle test looks at, and that lets people register faster than people do."""
    return shared_stack("victim", {"SAMPAN_RATE_LIMIT_SCALE": "1000"})
