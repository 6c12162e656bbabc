"""Lines in and out: of a pipe, or of a terminal where lines appear above the one that is being typed."""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import shutil
import sys
import termios
import threading
import tty
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|O.|.)?")
_CLEAR = "\r\x1b[K"
PROMPT = "> "
# Typing is good for 6 s.
_TYPING_SECONDS = 6.0
_CHUNK = 65_536


class PlainScreen:
    """Standard input and output as they are."""

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._typing = ""

    def line(self, text: str) -> None:
        """Prints it at once."""
        self._typing = ""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def typing(self, who: str) -> None:
        """One line, until something else is shown."""
        if who != self._typing:
            self.line(f"* {who} is writing")
            self._typing = who

    async def lines(self, _: Callable[[], None]) -> AsyncIterator[str]:
        """Until the input ends. A thread reads, since not every kind of input can be waited for."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(1000)
        loop = asyncio.get_running_loop()

        def put(line: str | None) -> None:
            asyncio.run_coroutine_threadsafe(queue.put(line), loop).result()

        # A daemon: nobody waits for input that never ends.
        threading.Thread(target=self._read, args=(put,), daemon=True).start()
        while (line := await queue.get()) is not None:
            yield line

    def _read(self, put: Callable[[str | None], None]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        try:
            while data := os.read(self._fd, _CHUNK):
                *whole, rest = (rest + decoder.decode(data)).split("\n")
                for line in whole:
                    put(line)
            put(rest + decoder.decode(b"", final=True))
            put(None)
        except RuntimeError:
            # The loop has ended: nobody listens any longer.
            return


class TerminalScreen:
    """A terminal: `opened` takes it over."""

    def __init__(self, fd: int = 0) -> None:
        self._keystroke: Callable[[], None] | None = None
        self._fd = fd
        self._typed = ""
        self._writing = ""
        self._forget: asyncio.TimerHandle | None = None
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keys come one by one meanwhile; afterwards the terminal is as it was."""
        before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._fd, self._read)
        try:
            self._draw()
            yield
        finally:
            loop.remove_reader(self._fd)
            termios.tcsetattr(self._fd, termios.TCSADRAIN, before)
            self._write(_CLEAR)

    def line(self, text: str) -> None:
        """Above what is being typed."""
        self._writing = ""
        self._write(f"{_CLEAR}{text}\n")
        self._draw()

    def typing(self, who: str) -> None:
        """Beside the prompt, for a while."""
        self._writing = who
        if self._forget is not None:
            self._forget.cancel()
        self._forget = asyncio.get_running_loop().call_later(_TYPING_SECONDS, self._still)
        self._draw()

    async def lines(self, keystroke: Callable[[], None]) -> AsyncIterator[str]:
        """Until Ctrl-D."""
        self._keystroke = keystroke
        while (line := await self._queue.get()) is not None:
            yield line

    def _still(self) -> None:
        self._writing = ""
        self._draw()

    def _read(self) -> None:
        data = os.read(self._fd, _CHUNK)
        if not data:
            self._queue.put_nowait(None)
        for key in _ESCAPES.sub("", self._decoder.decode(data)):
            self._key(key)
        self._draw()

    def _key(self, key: str) -> None:
        if key in "\r\n":
            self._queue.put_nowait(self._typed)
            self._typed = ""
        elif key == "\x04" and not self._typed:
            self._queue.put_nowait(None)
        elif key in "\x7f\b":
            self._typed = without_last(self._typed)
        elif key == "\x15":
            self._typed = ""
        elif key.isprintable() or unicodedata.category(key) == "Cf":
            self._typed += key
            if self._keystroke is not None:
                self._keystroke()

    def _draw(self) -> None:
        prompt = f"({self._writing} is writing) {PROMPT}" if self._writing else PROMPT
        room = shutil.get_terminal_size().columns - width(prompt) - 1
        self._write(_CLEAR + prompt + tail(self._typed, room))

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(_columns(one) for one in text)


def _columns(one: str) -> int:
    if unicodedata.category(one) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(one) in ("W", "F") else 1


def tail(text: str, columns: int) -> str:
    """As much of the end of a text as fits."""
    while text and width(text) > columns:
        text = text[1:]
    return text


def without_last(text: str) -> str:
    """A text without its last letter, whatever stands on it."""
    while text and _columns(text[-1]) == 0:
        text = text[:-1]
    return text[:-1]
