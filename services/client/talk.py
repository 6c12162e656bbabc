"""A conversation in lines: what one dialog looks like on a screen, and what typed lines do to it."""

from __future__ import annotations

import asyncio
import contextlib
import unicodedata
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Protocol

from services.client.client import ChatClient
from services.client.errors import ChatError
from services.client.models import Message
from services.client.updates import (
    BegunAnew,
    Event,
    Live,
    Lost,
    MemberAdded,
    MemberRemoved,
    MessageCreated,
    MessageDeleted,
    MessageEdited,
    Presence,
    ReactionAdded,
    ReactionRemoved,
    Receipt,
    Typing,
    Update,
)

# Seconds: typing is told again after so long; one's own messages are waited for that long at the end.
TYPING_AGAIN = 3.0
LAST_WORDS = 5.0
SENDING_AT_ONCE = 100
PAGE = 100
HELP = "/edit TEXT and /delete change your last message, /react EMOJI answers the last one, /quit leaves"


class Screen(Protocol):
    """Where lines are shown and typed."""

    def line(self, text: str) -> None:
        """Shows one."""

    def typing(self, who: str) -> None:
        """Shows that somebody is writing."""

    def lines(self, keystroke: Callable[[], None]) -> AsyncIterator[str]:
        """What is typed, line by line, until its end; calls `keystroke` while a line is being typed."""


class Talk:
    """One dialog on a screen. `names` by account; `until`: leave when somebody else has said this."""

    def __init__(
        self,
        client: ChatClient,
        dialog_id: str,
        names: Mapping[str, str],
        screen: Screen,
        *,
        until: str = "",
        history: int = 20,
    ) -> None:
        self._client = client
        self._dialog_id = dialog_id
        self._names = names
        self._screen = screen
        self._until = until
        self._history = history
        self._shown = 0
        self._own: Message | None = None
        self._newest: Message | None = None
        self._receipts: dict[str, int] = {}
        self._typing_told = 0.0
        self._lost = self._anew = False
        self._ready = asyncio.Event()
        self._said = asyncio.Event()
        self._moved = asyncio.Event()
        self._unread = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(SENDING_AT_ONCE)

    async def run(self) -> None:
        """Until the input ends or /quit, and `until` was said. Raises ChatError when it cannot go on."""
        listening = asyncio.create_task(self._listen())
        reading = asyncio.create_task(self._mark_read())
        typing = asyncio.create_task(self._type())
        try:
            await asyncio.wait((listening, typing), return_when=asyncio.FIRST_COMPLETED)
            for task in (listening, typing):
                if task.done():
                    task.result()
        finally:
            for task in (listening, reading, typing):
                task.cancel()
            await asyncio.gather(listening, reading, typing, return_exceptions=True)

    def keystroke(self) -> None:
        """Something was typed that is not yet a line."""
        now = asyncio.get_running_loop().time()
        if now - self._typing_told >= TYPING_AGAIN:
            self._typing_told = now
            self._client.typing(self._dialog_id)

    # What comes.

    async def _listen(self) -> None:
        async for update in self._client.updates():
            if isinstance(update, Live):
                await self._caught_up()
            else:
                self._show(update)

    async def _caught_up(self) -> None:
        if not self._ready.is_set():
            await self._read_history(None, self._history)
            self._screen.line("* connected; /help shows what else there is")
            self._ready.set()
        elif self._lost:
            self._screen.line("* connected again")
        if self._anew:
            # What the stream did not bring is in the history.
            while await self._read_history(self._shown, PAGE) == PAGE:
                continue
        self._lost = self._anew = False

    async def _read_history(self, after: int | None, limit: int) -> int:
        found = await self._client.history(self._dialog_id, after_seq=after, limit=limit)
        for message in found:
            self._message(message)
        return len(found)

    def _show(self, update: Update) -> None:
        if isinstance(update, Lost):
            self._lost = True
            self._screen.line(f"* connection lost ({update.reason}), next try in {update.retry_in:.1f} s")
        elif isinstance(update, BegunAnew):
            self._anew = True
            self._screen.line(f"* begins anew ({update.reason})")
        elif isinstance(update, Presence):
            if update.user_id in self._names and update.user_id != self._client.user_id:
                self._screen.line(f"* {self._name(update.user_id)} is {printable(update.status)}")
        elif isinstance(update, Event | Receipt | Typing) and update.dialog_id == self._dialog_id:
            self._of_dialog(update)

    def _of_dialog(self, update: Event | Receipt | Typing) -> None:
        if isinstance(update, MessageCreated):
            # Before the history is there, it is the history that shows it.
            if self._ready.is_set():
                self._message(update.message)
        elif isinstance(update, Event):
            self._event(update)
        elif update.user_id == self._client.user_id:
            return
        elif isinstance(update, Typing):
            self._screen.typing(self._name(update.user_id))
        elif self._own is not None and update.read_seq >= self._own.seq > self._receipts.get(
            update.user_id, 0
        ):
            self._receipts[update.user_id] = update.read_seq
            self._screen.line(f"* {self._name(update.user_id)} has read it")

    def _event(self, event: Event) -> None:
        who = self._name(event.actor_id)
        if isinstance(event, MessageEdited):
            self._screen.line(f"* {who} changed message {event.message_seq}: {printable(event.text)}")
        elif isinstance(event, MessageDeleted):
            self._screen.line(f"* {who} deleted message {event.message_seq}")
        elif isinstance(event, ReactionRemoved):
            self._screen.line(f"* {who} took {printable(event.emoji)} away")
        elif isinstance(event, ReactionAdded):
            self._screen.line(f"* {who} {printable(event.emoji)} message {event.message_seq}")
        elif isinstance(event, MemberRemoved):
            self._screen.line(f"* {self._name(event.user_id)} is gone")
        elif isinstance(event, MemberAdded):
            self._screen.line(f"* {self._name(event.user_id)} is {printable(event.role)} now")

    def _message(self, message: Message) -> None:
        if message.seq <= self._shown:
            return
        self._shown = message.seq
        self._newest = message
        text = printable(message.text) if message.deleted_at is None else "(deleted)"
        at, who = clock(message.created_at), self._name(message.sender_id)
        # Nobody can write a line that begins like this.
        paid = message.payment is not None
        self._screen.line(f"* [{at}] {who} paid {text}" if paid else f"[{at}] {who}: {text}")
        if message.sender_id == self._client.user_id:
            self._own = message
        else:
            self._unread.set()
            if self._until and self._until in message.text:
                self._said.set()
        self._moved.set()

    def _name(self, user_id: str) -> str:
        return self._names.get(user_id) or user_id[:8]

    async def _mark_read(self) -> None:
        while True:
            await self._unread.wait()
            self._unread.clear()
            if self._newest is not None:
                # A later one marks this one, too.
                with contextlib.suppress(ChatError):
                    await self._client.mark_read(self._newest.id)

    # What is typed.

    async def _type(self) -> None:
        await self._ready.wait()
        async for line in self._screen.lines(self.keystroke):
            if line.strip() == "/quit":
                break
            await self._typed(line.strip())
        await asyncio.gather(*self._sending)
        if self._until:
            await self._said.wait()

    async def _typed(self, line: str) -> None:
        if not line:
            return
        await self._room.acquire()
        work = self._command(line) if line.startswith("/") else self._send(line)
        task = asyncio.create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._done)
        # Lines of one person stand in the order in which they were typed: each has begun before the next.
        await asyncio.sleep(0)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._room.release()

    async def _send(self, text: str) -> None:
        try:
            sent = await self._client.send(self._dialog_id, text)
        except ChatError as error:
            self._screen.line(f"* not sent: {printable(error.detail or error.reason)}")
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                while self._shown < sent.seq:
                    self._moved.clear()
                    await self._moved.wait()

    async def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        try:
            if name == "/edit" and self._own is not None and rest:
                await self._client.edit(self._own.id, rest)
            elif name == "/delete" and self._own is not None:
                await self._client.delete(self._own.id)
            elif name == "/react" and self._newest is not None and rest:
                await self._client.react(self._newest.id, rest)
            else:
                self._screen.line(f"* {HELP}")
        except ChatError as error:
            self._screen.line(f"* not done: {printable(error.detail or error.reason)}")


def printable(text: str) -> str:
    """Text of others for a terminal: nothing in it moves the cursor or turns the direction of writing."""
    return "".join(_shown(one) for one in text.replace("\r\n", "\n"))


def _shown(one: str) -> str:
    if one == "\n":
        return "\n    "
    if one == "\t":
        return " "
    bidi = "\u202a" <= one <= "\u202e" or "\u2066" <= one <= "\u2069"
    return "\ufffd" if bidi or unicodedata.category(one) in ("Cc", "Cs") else one


def clock(at: datetime | None) -> str:
    """Hours and minutes here."""
    return at.astimezone().strftime("%H:%M") if at is not None else "--:--"
