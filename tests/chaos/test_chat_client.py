"""The typed client while parts of the stack die: every message once, in order, on every device."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import pytest

from services.client.client import ChatClient
from services.client.session import Session
from services.client.updates import Live, MessageCreated
from services.client.websocket import over_websocket
from tests.support import parts
from tests.support.stack import Stack

MESSAGES = 200
PATIENCE = 60.0


async def newcomer(stack: Stack) -> Session:
    """Somebody who has just registered."""
    name = "c" + secrets.token_hex(8)
    session = Session(f"127.0.0.1:{stack.port}", None, name, secrets.token_urlsafe(12))
    await session.register()
    return session


async def told(client: ChatClient, count: int, live: asyncio.Event) -> list[str]:
    """The next messages that come live. The client itself fails when an event is left out or repeated."""
    found: list[str] = []
    async for update in client.updates():
        if isinstance(update, Live):
            live.set()
        elif isinstance(update, MessageCreated):
            found.append(update.message.text)
            if len(found) == count:
                return found
    raise AssertionError("updates ended")


@pytest.mark.parametrize(
    ("hurt", "part"),
    [(parts.kill, "chat"), (parts.stop, "chat"), (parts.kill, "envoy"), (parts.kill, "postgres")],
)
async def test_every_message_comes_once_and_in_order(
    victim: Stack, hurt: Callable[[Stack, str], int], part: str
) -> None:
    target = f"127.0.0.1:{victim.port}"
    writer, reader = await newcomer(victim), await newcomer(victim)
    await reader.token()
    texts = [f"message {number}" for number in range(MESSAGES)]
    async with (
        ChatClient(target, None, writer, "laptop", patience=PATIENCE) as laptop,
        ChatClient(
            target, None, writer, "phone", transport=over_websocket(target), patience=PATIENCE
        ) as phone,
        ChatClient(target, None, reader, "phone", patience=PATIENCE) as other,
    ):
        dialog = await laptop.create_dialog([reader.user_id])
        devices = [(one, asyncio.Event()) for one in (laptop, phone, other)]
        everybody = [asyncio.create_task(told(one, MESSAGES, live)) for one, live in devices]
        await asyncio.gather(*(live.wait() for _, live in devices))
        sending = [asyncio.create_task(laptop.send(dialog.id, text)) for text in texts[:100]]
        await sending[20]
        pid = hurt(victim, part)
        sending += [asyncio.create_task(laptop.send(dialog.id, text)) for text in texts[100:]]
        async with asyncio.timeout(PATIENCE):
            sent = await asyncio.gather(*sending)
            assert sorted(one.seq for one in sent) == list(range(2, MESSAGES + 2))
            kept = []
            while len(kept) < MESSAGES:
                page = await other.history(dialog.id, after_seq=len(kept) + 1, limit=100)
                kept += [one.text for one in page]
            assert sorted(kept) == sorted(texts)
            for one in everybody:
                assert await one == kept
        await parts.another(victim, part, pid, within=30)
        await parts.well(victim, within=30)
    await writer.close()
    await reader.close()
