"""A TCP proxy that tests put before a server: it delays, holds, refuses and cuts, also on what is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

_CHUNK = 65_536


@dataclass
class Cut:
    """Cuts a connection on which the client said all of `words`, in order.

    With `answered` the last of them reaches the server and is obeyed, but its answer is lost; without, it is
    lost itself. `left` says how many connections are still to be cut, `done` how many were.
    """

    words: Sequence[bytes]
    answered: bool
    left: int = 1
    done: int = 0


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._heard = 0
        self._tail = b""
        self._doomed: Cut | None = None

    def abort(self) -> None:
        """Both ends see the connection reset."""
        for writer in (self._client, self._server):
            writer.transport.abort()

    async def up(self, reader: asyncio.StreamReader) -> None:
        """What the client says."""
        while chunk := await reader.read(_CHUNK):
            await self._proxy.passage()
            cut = self._fits(chunk)
            if cut is not None:
                cut.left -= 1
                if not cut.answered:
                    cut.done += 1
                    self.abort()
                    return
                self._doomed = cut
            self._server.write(chunk)
            await self._server.drain()
        self._server.close()

    async def down(self, reader: asyncio.StreamReader) -> None:
        """What the server says."""
        while chunk := await reader.read(_CHUNK):
            await self._proxy.passage()
            if self._doomed is not None:
                self._doomed.done += 1
                self.abort()
                return
            self._client.write(chunk)
            await self._client.drain()
        self._client.close()

    def _fits(self, chunk: bytes) -> Cut | None:
        cut = self._proxy.cut_when
        if cut is None or not cut.left:
            return None
        said = self._tail + chunk
        while self._heard < len(cut.words):
            word = cut.words[self._heard]
            found = said.find(word)
            if found < 0:
                self._tail = said[-len(word) + 1 :]
                return None
            said = said[found + len(word) :]
            self._heard += 1
        self._heard, self._tail = 0, b""
        return cut


class Proxy:
    """Stands before the server at `host`:`port`. Attributes may be set at any time.

    `delay` in seconds holds up each piece, either way; `refuses` closes new connections at once.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._links: set[_Link] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.port = 0
        self.delay = 0.0
        self.refuses = False
        self.cut_when: Cut | None = None

    def cut(self) -> None:
        """Resets all connections."""
        for link in list(self._links):
            link.abort()

    def stop(self) -> None:
        """Lets nothing pass; connections stay open."""
        self._open.clear()

    def resume(self) -> None:
        """Lets pass what `stop` held."""
        self._open.set()

    async def passage(self) -> None:
        """Waits until a piece may pass."""
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._open.wait()

    def url(self, url: str) -> str:
        """The URL of the server, with the proxy in its place."""
        split = urlsplit(url)
        credentials, at, _ = split.netloc.rpartition("@")
        return urlunsplit(split._replace(netloc=f"{credentials}{at}127.0.0.1:{self.port}"))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        if self.refuses:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(self, writer, server_writer)
        self._links.add(link)
        try:
            await asyncio.gather(link.up(reader), link.down(server_reader))
        except OSError:
            pass
        finally:
            link.abort()
            self._links.discard(link)


@asynccontextmanager
async def proxy_before(url: str) -> AsyncIterator[Proxy]:
    """A proxy before the server that a URL names; all its connections are cut at the end."""
    split = urlsplit(url)
    assert split.hostname
    assert split.port
    proxy = Proxy(split.hostname, split.port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        proxy.resume()
        server.close()
        proxy.cut()
