"""chat: a conversation in this terminal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import sys
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from services.stack.commands.console import secrets_of, this_home, told_errors
from services.stack.commands.seeding import PEOPLE
from services.stack.errors import StackError

if TYPE_CHECKING:
    import grpc

    from services.client.client import ChatClient
    from services.client.session import Session

# Of whoever is not one of the demo people.
PASSWORD = "SAMPAN_CHAT_PASSWORD"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True)
class Door:
    """The edge, and the password of demo people."""

    target: str
    credentials: grpc.ChannelCredentials | None
    tls: ssl.SSLContext | None
    demo_password: str
    own_password: str
    production: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    me: str
    other: str
    dialog_id: str
    until: str
    history: int
    plain: bool
    websocket: bool


class PasswordNotKnown(StackError):
    """Somebody is no demo person, and their password was not given."""


def chat(
    *,
    me: Annotated[
        str, typer.Option("--as", help="Who you are: a user name, or a demo person such as malee.")
    ],
    other: Annotated[str, typer.Option("--with", help="Whom to talk to: likewise, or an account's id.")] = "",
    dialog: Annotated[str, typer.Option("--dialog", help="Id of a dialog that you are in.")] = "",
    plain: Annotated[bool, typer.Option("--plain", help="Lines only; so it is in a pipe, too.")] = False,
    websocket: Annotated[bool, typer.Option("--websocket", help="The live stream over a WebSocket.")] = False,
    until: Annotated[
        str, typer.Option("--until", help="Leave only when somebody else has said TEXT.", metavar="TEXT")
    ] = "",
    history: Annotated[
        int, typer.Option("--history", "-n", help="Messages to begin with.", min=1, max=100)
    ] = 20,
) -> None:
    """Talk to somebody, live: open it in two terminals.

    Who is not there yet is registered with the password of the demo people. For others set
    SAMPAN_CHAT_PASSWORD. What was missed while the connection was away comes when it is back. Ctrl-D, Ctrl-C
    or /quit leaves.

    \b
    Examples:
      sampan chat --as malee --with siti
      sampan chat --as siti --with malee
      sampan chat --as somchai --dialog 019a2f5e-7d54-7cc0-8f6d-2b7d8a51c3aa
      sampan chat --as malee --with siti --websocket
      echo 'Is the batik ready?' | sampan chat --as malee --with siti --plain
    """
    with told_errors():
        if bool(other) == bool(dialog):
            raise typer.BadParameter("give --with or --dialog")
        if other and person(other) == person(me):
            raise typer.BadParameter("--with must be somebody other than --as")
        wish = Wish(
            me,
            other,
            dialog,
            until,
            history,
            plain or not (sys.stdin.isatty() and sys.stdout.isatty()),
            websocket,
        )
        asyncio.run(_until_told(talk(wish, door())))


def door() -> Door:
    import grpc

    from services.stack.envoy_part import Edge

    home, environment = this_home()
    demo_password = secrets_of(home).demo_password
    edge = Edge(environment)
    trusted = edge.certificate.read_bytes() if edge.certificate else None
    return Door(
        target=f"{edge.reachable_host}:{edge.port}",
        credentials=grpc.ssl_channel_credentials(trusted) if trusted else None,
        tls=ssl.create_default_context(cadata=trusted.decode()) if trusted else None,
        demo_password=demo_password,
        own_password=environment.get(PASSWORD, ""),
        production=environment.get("SAMPAN_ENVIRONMENT") == "production",
    )


async def _until_told(work: Coroutine[None, None, None]) -> None:
    """Runs until it is done, or somebody presses Ctrl-C: both are good ends."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def talk(wish: Wish, place: Door) -> None:
    from services.client.client import ChatClient
    from services.client.errors import ChatError, OrderBroken, Unreachable
    from services.client.websocket import over_websocket

    transport = over_websocket(place.target, place.tls) if wish.websocket else None
    try:
        async with signed_in(place, wish.me, place.own_password or place.demo_password) as session:
            other_id = await account_of(place, wish.other) if wish.other else ""
            async with ChatClient(place.target, place.credentials, session, transport=transport) as client:
                await converse(client, wish, other_id)
    except Unreachable as error:
        hint = "Run ./scripts/up first."
        raise StackError("envoy", f"does not answer at {place.target}: {error.reason}", hint) from None
    except ChatError as error:
        raise StackError("chat", error.detail or error.reason, "See sampan chat --help.") from None
    except OrderBroken as error:
        raise StackError("chat", f"the server broke its promise: {error}", "Please report this.") from None


async def converse(client: ChatClient, wish: Wish, other_id: str) -> None:
    from services.client.talk import Talk
    from services.stack.terminal import PlainScreen, TerminalScreen

    found = await client.create_dialog([other_id]) if other_id else await client.dialog(wish.dialog_id)
    names = {client.user_id: wish.me} | ({other_id: wish.other} if other_id else {})

    screen = PlainScreen() if wish.plain else TerminalScreen()
    with nullcontext() if isinstance(screen, PlainScreen) else screen.opened():
        await Talk(client, found.id, names, screen, until=wish.until, history=wish.history).run()


@asynccontextmanager
async def signed_in(place: Door, name: str, password: str) -> AsyncIterator[Session]:
    """A session of somebody, registered if need be; it ends with the block."""
    from services.client.errors import ChatError
    from services.client.session import Session

    username, display = person(name)
    session = Session(place.target, place.credentials, username, password)
    try:
        await enter(session, place, name, display)
        try:
            yield session
        finally:
            with contextlib.suppress(ChatError):
                await session.sign_out()
    finally:
        await session.close()


async def enter(session: Session, place: Door, name: str, display: str) -> None:
    from services.client.errors import ChatError, SignedOut, Unreachable

    try:
        await session.token()
    except SignedOut:
        if place.production or place.own_password:
            raise
        try:
            await session.register(display)
        except Unreachable:
            raise
        except ChatError as error:
            if error.reason != "USERNAME_TAKEN":
                raise StackError("chat", f"cannot register {name}: {error.detail or error.reason}") from None
            # Meanwhile by another terminal, or long ago by somebody with another password.
            await enter_again(session, name)


async def enter_again(session: Session, name: str) -> None:
    from services.client.errors import SignedOut

    try:
        await session.token()
    except SignedOut:
        hint = f"Give theirs in {PASSWORD}, or take another name."
        raise PasswordNotKnown("chat", f"{name} is there and has another password", hint) from None


async def account_of(place: Door, name: str) -> str:
    """The account of whom one wants to talk to. Raises StackError when their password is not known."""
    from services.client.errors import SignedOut

    with contextlib.suppress(ValueError):
        return str(uuid.UUID(name))
    try:
        async with signed_in(replace(place, own_password=""), name, place.demo_password) as session:
            return session.user_id
    except (PasswordNotKnown, SignedOut):
        hint = "Give their account's id: --with ID. They see it with GET /v1/me."
        raise StackError("chat", f"{name} has a password of their own", hint) from None


def person(name: str) -> tuple[str, str]:
    """User name and display name: demo people go by their first names, too."""
    for demo in PEOPLE:
        if name in (demo.username, demo.username.partition(".")[2]):
            return demo.username, demo.name
    return name, name
