"""The event loop of services: awake once for all that gRPC has to tell."""

from __future__ import annotations

import socket
import subprocess
import sys

from services.mesh.loop import once

# A process of its own, since all of gRPC in one belongs to one loop.
CALLS = """
import asyncio, grpc, uvloop
from services.mesh import loop

wrapped = []
plain = loop.once
def once(reads, callback):
    wrapped.append(callback)
    return plain(reads, callback)
loop.once = once

async def echo(request, _):
    return request

async def main():
    server = grpc.aio.server()
    methods = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/a.B/Echo")
        answers = await asyncio.gather(*(call(b"%d" % number, timeout=20) for number in range(300)))
    assert answers == [b"%d" % number for number in range(300)]
    await server.stop(0)

uvloop.run(main(), loop_factory=loop.Loop)
assert len(wrapped) == 1, wrapped
"""


def test_who_reads_a_byte_finds_one_however_many_were_written() -> None:
    reads, writes = socket.socketpair()
    found: list[bytes] = []
    with reads, writes:
        called = once(reads, lambda: found.append(reads.recv(100)))
        for count in (1, 2, 300):
            writes.send(b"1" * count)
            called()

    assert found == [b"1", b"1", b"1"]


def test_calls_over_grpc_are_answered_on_a_loop_that_knows_what_wakes_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALLS], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
