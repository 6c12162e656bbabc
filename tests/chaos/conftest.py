"""A stack that tests may hurt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import own_stack
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def victim(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A stack of this module only, that lets people register faster than people do."""
    name = request.module.__name__.rpartition(".")[2]
    with own_stack(name, {"SAMPAN_RATE_LIMIT_SCALE": "1000"}) as found:
        yield found
