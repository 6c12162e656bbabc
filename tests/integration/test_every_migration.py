"""The migrations of every service go down and up again, and make what its models say."""

from __future__ import annotations

import pytest

from services.mesh import migrations
from tests.support.databases import clone
from tests.support.stack import Stack

SERVICES = sorted(path.parent.name for path in migrations.SERVICES.glob("*/migrations"))


@pytest.mark.parametrize("service", SERVICES)
async def test_migrations_go_down_and_up_again_and_agree_with_the_models(stack: Stack, service: str) -> None:
    # One that no service is at work on: it would miss its tables for a moment.
    async with clone(stack, service) as found:
        url = found.owner_url
        await migrations.check(service, url)
        await migrations.downgrade(service, url, "base")
        await migrations.upgrade(service, url)
        await migrations.check(service, url)
        assert await migrations.current(url) == migrations.head(service)
