"""Fixtures of the shared stack."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.conftest import own_stack
from tests.support.live_lines import Edge
from tests.support.mailbox import Mailbox
from tests.support.mesh import channel_as
from tests.support.stack import Stack


@pytest.fixture
async def mailbox(stack: Stack) -> AsyncIterator[Mailbox]:
    """What people were sent by the stack's notification."""
    address = f"127.0.0.1:{stack.state.ports['notification']}"
    async with channel_as("operator", address, "notification", stack.pki) as channel:
        yield Mailbox(channel)


@pytest.fixture(scope="session")
def talking() -> Iterator[Stack]:
    """A stack with limits of live streams that a test can reach, and limits of calls that it does not.

    Its files are given to one process (`TOGETHER`): who runs some of them alone has one for each.
    """
    with own_stack(
        f"talking-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}",
        {
            "SAMPAN_RATE_LIMIT_SCALE": "20",
            # Times the scale.
            "SAMPAN_MESSAGING_FRAMES_PER_SECOND": "2",
            "SAMPAN_MESSAGING_HEARTBEAT_SECONDS": "2",
            "SAMPAN_MESSAGING_USER_STREAMS": "16",
        },
    ) as found:
        yield found


@pytest.fixture(scope="module")
async def edge(talking: Stack) -> AsyncIterator[Edge]:
    """Live clients of that."""
    async with Edge.of(talking) as found:
        yield found
