"""`sampan chat`: two terminals talk."""

from __future__ import annotations

import asyncio
import os
import pty
import secrets
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sampan.messaging.v1 import frame_pb2
from services.client.talk import printable
from services.stack.home import Home
from services.stack.secrets import load_or_make
from services.stack.terminal import tail, width, without_last
from services.stack.topology import SERVICES
from tests.support.chat_server import ChatServer, serving_chat
from tests.support.stack import ROOT, Stack, environment, free_port

PATIENCE = 60.0


class Command:
    """A `sampan chat` that runs in pipes."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.said = ""

    async def type(self, text: str) -> None:
        """Types a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        await self.process.stdin.drain()

    async def until(self, words: str) -> None:
        """Reads until it has said this."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
                while words not in self.said:
                    line = await self.process.stdout.readline()
                    assert line, f"it ended without {words!r}: {self.said}"
                    self.said += line.decode()
        except TimeoutError:
            raise AssertionError(f"it has not said {words!r}, but: {self.said}") from None

    async def left(self) -> int:
        """Ends its input and waits."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return await self.ended()

    async def ended(self) -> int:
        """Reads to the end and waits; fails with what it has said when it stays."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
                while line := await self.process.stdout.readline():
                    self.said += line.decode()
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"it stays, and has said: {self.said}") from None


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ChatServer]:
    """Where the edge would be."""
    async with serving_chat(free_port()) as found:
        yield found


def edge(server: ChatServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a command whose edge is this server."""
    return environment(tmp_path / "home", int(server.address.rpartition(":")[2]))


async def chat(server: ChatServer, tmp_path: Path, *arguments: str) -> Command:
    """Starts one."""
    return await started(edge(server, tmp_path), *arguments)


async def started(env: dict[str, str], *arguments: str) -> Command:
    """Starts one in an environment."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.stack.cli", "chat", *arguments),
        env=env,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    return Command(process)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that knows the password of demo people."""
    (tmp_path / "home").mkdir(mode=0o700)
    load_or_make(Home(tmp_path / "home"), SERVICES)
    return tmp_path


async def test_two_terminals_talk(server: ChatServer, home: Path) -> None:
    malee = await chat(server, home, "--as", "malee", "--with", "siti")
    await malee.until("* connected")
    siti = await chat(server, home, "--as", "siti", "--with", "malee")
    await siti.until("* connected")
    await malee.type("Is the batik ready?")
    await siti.until("malee: Is the batik ready?")
    await malee.until("* siti has read it")
    await siti.type("It is, come by.")
    await malee.until("siti: It is, come by.")
    assert (await malee.left(), await siti.left()) == (0, 0)
    # Who comes later sees what was said.
    again = await chat(server, home, "--as", "siti", "--with", "malee", "--history", "1")
    await again.until("* connected")
    assert "come by." in again.said
    assert "batik" not in again.said
    assert await again.left() == 0


async def test_two_terminals_talk_over_websockets(stack: Stack) -> None:
    one, other = (f"w{secrets.token_hex(6)}" for _ in range(2))
    first = await started(stack.environment(), "--as", one, "--with", other, "--websocket")
    await first.until("* connected")
    second = await started(stack.environment(), "--as", other, "--with", one, "--websocket")
    await second.until("* connected")
    await first.type("Is the batik ready?")
    await second.until(f"{one}: Is the batik ready?")
    await second.type("It is, come by.")
    await first.until(f"{other}: It is, come by.")
    assert (await first.left(), await second.left()) == (0, 0)


async def test_a_lost_connection_is_seen_and_mended(server: ChatServer, home: Path) -> None:
    malee = await chat(server, home, "--as", "malee", "--with", "siti")
    await malee.until("* connected")
    (dialog,) = server.dialogs
    siti = next(account for name, (account, _) in server.accounts.items() if name == "demo.siti")
    server.drop()
    server.say(dialog, siti, "said meanwhile")
    await malee.until("* connection lost (UNAVAILABLE)")
    await malee.until("siti: said meanwhile")
    await malee.until("* connected again")
    server.faults.refuse_resume = "RESUME_TOKEN_INVALID"
    server.drop()
    await malee.until("* begins anew")
    server.say(dialog, siti, "and more")
    await malee.until("siti: and more")
    assert malee.said.count("said meanwhile") == 1
    assert await malee.left() == 0


async def test_it_stays_until_something_was_said_and_goes_at_ctrl_c(server: ChatServer, home: Path) -> None:
    malee = await chat(server, home, "--as", "malee", "--with", "siti", "--until", "come by")
    await malee.type("Is the batik ready?")
    await malee.until("malee: Is the batik ready?")
    siti = await chat(server, home, "--as", "siti", "--with", "malee")
    await siti.type("It is, come by.")
    assert await malee.left() == 0
    await siti.until("come by.")
    siti.process.send_signal(signal.SIGINT)
    assert await siti.ended() == 0


async def test_changes_of_messages_and_typing_are_shown(server: ChatServer, home: Path) -> None:
    malee = await chat(server, home, "--as", "malee", "--with", "siti")
    await malee.until("* connected")
    (dialog,) = server.dialogs
    siti = next(account for name, (account, _) in server.accounts.items() if name == "demo.siti")
    typing = frame_pb2.Frame(typing=[frame_pb2.Typing(dialog_id=dialog, user_id=siti)])
    server.streams[0].frames.put_nowait(typing)
    await malee.until("* siti is writing")
    server.append(dialog, siti, reaction_added=frame_pb2.ReactionChanged(message_seq=1, emoji="👍"))
    await malee.until("* siti 👍 message 1")
    server.append(dialog, siti, message_deleted=frame_pb2.MessageDeleted(message_seq=1))
    await malee.until("* siti deleted message 1")
    await malee.type("/help")
    await malee.until("* /edit TEXT")
    await malee.type("/quit")
    assert await malee.ended() == 0


async def test_who_cannot_come_in_is_told_why(server: ChatServer, home: Path) -> None:
    both = await chat(server, home, "--as", "malee")
    assert await both.left() == 2
    server.accounts["somchai"] = ("019a2f5e-7d54-7cc0-8f6d-2b7d8a51c3aa", "durian at midnight")
    other = await chat(server, home, "--as", "somchai", "--with", "siti")
    await other.until("sampan: chat: somchai is there and has another password")
    assert await other.left() == 1
    met = await chat(server, home, "--as", "malee", "--with", "somchai")
    await met.until("Give their account's id: --with ID.")
    assert await met.left() == 1
    alone = await chat(server, home, "--as", "malee", "--with", "malee")
    assert await alone.left() == 2
    nowhere = await chat(server, home, "--as", "malee", "--dialog", "019a2f5e-7d54-7cc0-8f6d-2b7d8a51c3aa")
    await nowhere.until("sampan: chat: dialog_not_found")
    assert await nowhere.left() == 1


async def test_a_terminal_keeps_what_is_being_typed(server: ChatServer, home: Path) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.stack.cli", "chat", "--as", "malee", "--with", "siti"),
        env={**edge(server, home), "COLUMNS": "80"},
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""

    async def until(words: str) -> None:
        nonlocal shown
        try:
            async with asyncio.timeout(PATIENCE):
                while words.encode() not in shown:
                    shown += await asyncio.to_thread(os.read, ours, 65_536)
        except TimeoutError:
            raise AssertionError(f"it has not shown {words!r}, but: {shown!r}") from None

    await until("* connected")
    (dialog,) = server.dialogs
    siti = next(account for name, (account, _) in server.accounts.items() if name == "demo.siti")
    os.write(ours, b"half a lin")
    await until("> half a lin")
    server.say(dialog, siti, "\x1b[2Jhello")
    await until("siti: \ufffd[2Jhello\r\n\r\x1b[K> half a lin")
    os.write(ours, b"x\x7fe\r")
    await until("malee: half a line")
    assert server.texts(dialog)[-1] == "half a line"
    os.write(ours, b"\x04")
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    os.close(ours)


def test_text_of_others_cannot_move_the_cursor() -> None:
    assert printable("a\x1b[2Jb\u202ec\n\td") == "a\ufffd[2Jb\ufffdc\n     d"
    assert printable("👩‍🚀 สวัสดี") == "👩‍🚀 สวัสดี"


def test_the_line_being_typed_fits_whatever_the_script() -> None:
    assert width("ที่นี่") == 2
    assert width("船") == 2
    assert tail("abcdef", 3) == "def"
    assert without_last("ที่นี่") == "ที่"
    assert without_last("") == ""
