"""events: what the bus carries, and what could not be consumed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from services.stack.commands.console import FAILED, one_of, table, this_home, told_errors
from services.stack.commands.data import urls
from services.stack.errors import StackError

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from services.mesh.database import Database
    from services.mesh.inbox import Parked

# Services that consume events, and so have an inbox.
CONSUMERS = ("analytics", "messaging", "notification")
# Parked events that are shown of each service, at most.
SHOWN = 100
_TIMEOUT = 5.0

events = typer.Typer(no_args_is_help=True, help="See events go by, and have those tried again that failed.")

Some = Annotated[str, typer.Argument(help="One service; default: all.", callback=one_of(CONSUMERS))]
One = Annotated[str, typer.Argument(help="The service.", callback=one_of(CONSUMERS))]


@events.command()
def parked(service: Some = "") -> None:
    """List events that failed too often and are not tried any more, the longest parked first.

    \b
    Examples:
      sampan events parked
      sampan events parked notification
    """
    with told_errors():
        rows = []
        for name in [service] if service else CONSUMERS:
            for one in asyncio.run(parked_of(owner_url(name))):
                at = f"{one.parked_at:%Y-%m-%dT%H:%M:%SZ}"
                rows.append((name, str(one.event.id), one.event.subject, str(one.tries), one.error, at))
        table(("SERVICE", "EVENT", "SUBJECT", "TRIES", "ERROR", "PARKED"), rows)


@events.command()
def replay(
    *,
    service: One,
    event: Annotated[str, typer.Argument(help="Id of the event.")] = "",
    every: Annotated[bool, typer.Option("--all", help="All that are parked.")] = False,
) -> None:
    """Have parked events tried again. One that fails again stays parked.

    \b
    Examples:
      sampan events replay notification 01a1fd40-2d9f-72fe-84ae-f8e8276072f3
      sampan events replay notification --all
    """
    if bool(event) == every:
        raise typer.BadParameter("give an event's id, or --all")
    try:
        only = UUID(event) if event else None
    except ValueError:
        raise typer.BadParameter(f"{event!r} is no id") from None
    with told_errors():
        count = asyncio.run(replay_of(owner_url(service), only))
        if event and not count:
            raise StackError(service, f"has not parked {event}", "See: sampan events parked")
        typer.echo(f"{service} tries {count} again")


@events.command()
def tail(
    subject: Annotated[str, typer.Argument(help="A subject, * and > allowed.")] = "sampan.>",
    count: Annotated[int, typer.Option("--count", "-n", help="End after so many; 0: never.", min=0)] = 0,
) -> None:
    """Show events as they are published, from now on: one JSON object a line. Ctrl-C ends it.

    \b
    Examples:
      sampan events tail
      sampan events tail 'sampan.identity.session.>' -n 1
    """
    with told_errors():
        asyncio.run(follow(subject, count))


def owner_url(service: str) -> str:
    return urls(service, owner=True)[service]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    from services.mesh.database import Database

    database = Database(url, pool=1, timeout=_TIMEOUT, name="operator")
    try:
        yield database
    finally:
        await database.close()


async def parked_of(url: str) -> Sequence[Parked]:
    from services.mesh import inbox

    async with opened(url) as database, database.transaction() as connection:
        return await inbox.parked(connection, SHOWN)


async def replay_of(url: str, event_id: UUID | None) -> int:
    from services.mesh import inbox

    async with opened(url) as database, database.transaction() as connection:
        return await inbox.ask_replay(connection, event_id)


async def follow(subject: str, count: int) -> None:
    import nats
    import nats.errors

    from services.mesh.bus import flushed
    from services.stack.addresses import addresses_of
    from services.stack.pki import OPERATOR

    home, environment = this_home()
    url = addresses_of(home, home.load_state(), environment).nats(OPERATOR)
    try:
        client = await nats.connect(url, connect_timeout=2, allow_reconnect=False, error_cb=_silent)
    except (nats.errors.Error, OSError, TimeoutError):
        raise StackError("nats", "does not answer", "Is it up? ./scripts/sampan status") from None
    heard = await client.subscribe(subject)
    await flushed(client)
    typer.echo(f"listening to {subject}", err=True)
    seen = 0
    try:
        async for message in heard.messages:
            typer.echo(shown(message))
            seen += 1
            if seen == count:
                return
        raise typer.Exit(FAILED)
    finally:
        await client.close()


async def _silent(_: Exception) -> None:
    """Its text may hold the address with the password."""


def shown(message: Msg) -> str:
    """An event as one line: its attributes."""
    attributes = {
        name.removeprefix("ce-"): value
        for name, value in (message.headers or {}).items()
        if name.startswith("ce-")
    }
    return json.dumps({**attributes, "bytes": len(message.data)})
