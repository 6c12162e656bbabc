"""The servers that only benchmarks run: a bare echo, and the probe behind the whole production chain."""

from __future__ import annotations

import argparse
import asyncio
import base64
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sampan.probe.v1 import probe_service_pb2 as probe
from services.mesh import logs
from services.mesh.app import App
from services.mesh.call import Call
from services.mesh.settings import MeshSettings, ServiceSettings
from services.stack.pki import Pki
from services.stack.serve import Running, calm_collector

PROBE = "sampan.probe.v1.ProbeService"
ECHO_PATH = f"/{PROBE}/Echo"
# Not of the contract: a bare server that writes to streams.
WRITES = "bench.Writes"
LISTEN_PATH, TICK_PATH = f"/{WRITES}/Listen", f"/{WRITES}/Tick"


class OneKey:
    """The key that identity signs with, told at the start."""

    def __init__(self, kid: str, key: Ed25519PublicKey) -> None:
        self._kid = kid
        self._key = key

    async def find(self, kid: str, /) -> Ed25519PublicKey | None:
        """The key, if it is that one."""
        return self._key if kid == self._kid else None


class Probe:
    """Echoes. What benchmarks do not call has the same answer."""

    async def Echo(self, request: probe.EchoRequest, _: Call) -> probe.EchoResponse:  # noqa: N802 - the contract's
        """The text that came."""
        return probe.EchoResponse(text=request.text)

    EchoOnce = EchoPublic = EchoAdmin = EchoService = EchoWithoutPolicy = Echo

    async def EchoDown(self, request: probe.EchoRequest, call: Call) -> AsyncIterator[probe.EchoResponse]:  # noqa: N802
        """The text, `times` times."""
        for _ in range(request.times):
            yield await self.Echo(request, call)

    async def EchoBoth(  # noqa: N802
        self, requests: AsyncIterator[probe.EchoRequest], call: Call
    ) -> AsyncIterator[probe.EchoResponse]:
        """Each text."""
        async for request in requests:
            yield await self.Echo(request, call)

    async def EchoUp(self, requests: AsyncIterator[probe.EchoRequest], call: Call) -> probe.EchoResponse:  # noqa: N802
        """The last text."""
        last = probe.EchoRequest()
        async for request in requests:
            last = request
        return await self.Echo(last, call)


async def serve_echo(listen: str) -> None:
    """The limit: the same messages, no chain, no TLS, no token."""

    async def echo(request: probe.EchoRequest, _: grpc.aio.ServicerContext[Any, Any]) -> probe.EchoResponse:
        return probe.EchoResponse(text=request.text)

    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handler = grpc.unary_unary_rpc_method_handler(
        echo, probe.EchoRequest.FromString, probe.EchoResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PROBE, {"Echo": handler}),))
    port = server.add_insecure_port(listen)
    await server.start()
    _say(port)
    await server.wait_for_termination()


async def serve_writes(listen: str) -> None:
    """The limit of fan-out: what comes to Tick is written to all streams of Listen as it is."""
    queues: set[asyncio.Queue[bytes]] = set()

    async def hear(_: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        queues.add(queue)
        try:
            await context.write(b"ready")
            while True:
                await context.write(await queue.get())
        finally:
            queues.discard(queue)

    async def tick(request: bytes, _: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        for queue in queues:
            queue.put_nowait(request)
        return b""

    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    methods = {
        "Listen": grpc.unary_stream_rpc_method_handler(hear),
        "Tick": grpc.unary_unary_rpc_method_handler(tick),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(WRITES, methods),))
    port = server.add_insecure_port(listen)
    await server.start()
    _say(port)
    await server.wait_for_termination()


async def serve_probe(listen: str, pki: Path, kid: str, key: str) -> None:
    """The probe, built like any service of the mesh."""
    mesh = MeshSettings()
    own = Pki(pki).identity("probe")
    settings = ServiceSettings(listen=listen, tls_cert=own.certificate, tls_key=own.key, tls_ca=own.ca)
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)))
    app = App(name="probe", settings=settings, servicers={PROBE: Probe()}, keys=OneKey(kid, public))
    running = Running(app, mesh)
    await running.start()
    calm_collector()
    _say(int(running.server.address.rpartition(":")[2]))
    await asyncio.Event().wait()


def _say(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def main() -> None:
    """Entry point; prints the port when it serves, and ends when it is killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=("echo", "probe", "writes"))
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--pki", type=Path, default=Path())
    parser.add_argument("--kid", default="")
    parser.add_argument("--key", default="")
    given = parser.parse_args()
    logs.configure(f"bench-{given.server}", MeshSettings().log_level)
    if given.server == "echo":
        uvloop.run(serve_echo(given.listen))
    elif given.server == "writes":
        uvloop.run(serve_writes(given.listen))
    else:
        uvloop.run(serve_probe(given.listen, given.pki, given.kid, given.key))


if __name__ == "__main__":
    main()
