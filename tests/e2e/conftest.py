"""Fixtures of the shared stack."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.mailbox import Mailbox
from tests.support.mesh import channel_as
from tests.support.stack import Stack


@pytest.fixture
async def mailbox(stack: Stack) -> AsyncIterator[Mailbox]:
    """What people were sent by the stack's notification."""
    address = f"127.0.0.1:{stack.state.ports['notification']}"
    async with channel_as("operator", address, "notification", stack.pki) as channel:
        yield Mailbox(channel)
