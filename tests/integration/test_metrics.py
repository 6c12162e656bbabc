"""What a service counts of its calls, how it is told, and what that costs nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from sampan.probe.v1 import probe_service_pb2 as probe
from services.mesh.exposition import Listener, Process
from services.mesh.metrics import Distribution, Figure, Gauge, Histogram, LoopLag
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from services.stack.serve import Running
from tests.support import http as plain
from tests.support.mesh import PROBE, Minter, channel_as, probe_app
from tests.support.waiting import until

HELLO = probe.EchoRequest(text="hello")
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


@dataclass
class World:
    """The probe, and where its process tells its metrics."""

    channel: grpc.aio.Channel
    url: str
    running: Running

    async def samples(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Values by name and labels, as Prometheus would read them."""
        async with plain.client() as client:
            text = (await client.get(self.url, headers=OPENMETRICS)).text
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.values()))] = sample.value
        return found

    async def calls(self, method: str, reason: str) -> float:
        """How many calls of a method ended so."""
        path = f"{PROBE}/{method}" if method else "unknown"
        return (
            (await self.samples())
            .get("sampan_calls_total", {})
            .get(tuple(sorted(("probe", path, reason))), 0)
        )

    async def in_flight(self, method: str) -> float:
        """How many calls of a method are being worked on."""
        return (await self.samples())["sampan_calls_in_flight"][tuple(sorted(("probe", f"{PROBE}/{method}")))]


@pytest.fixture(scope="module")
async def world(pki: Pki) -> AsyncIterator[World]:
    running = Running(probe_app(pki, Minter()), MeshSettings(rate_limit_scale=1000))
    await running.start()
    listener = Listener("127.0.0.1:0", Process([running.counted], LoopLag(), lambda: (0, 0)).scrape)
    await listener.start()
    async with channel_as("edge", running.server.address, "probe", pki) as channel:
        yield World(channel, f"http://{listener.address}/metrics", running)
    await listener.stop()
    await running.stop(notice=0, grace=0)


async def refuse(call: grpc.aio.Call) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await call  # type: ignore[misc]


async def test_calls_are_counted_by_how_they_ended(world: World) -> None:
    echo = world.channel.unary_unary(f"/{PROBE}/EchoPublic", probe.EchoRequest.SerializeToString)
    await echo(HELLO)
    await echo(HELLO)
    await refuse(echo(probe.EchoRequest(text="hello", fail="NotFound")))
    await refuse(echo(probe.EchoRequest(text="hello", fail="KeyError")))
    await refuse(world.channel.unary_unary(f"/{PROBE}/EchoPublic")(b"\xff"))
    assert await world.calls("EchoPublic", "OK") == 2
    assert await world.calls("EchoPublic", "NOT_FOUND") == 1
    assert await world.calls("EchoPublic", "INTERNAL") == 1
    assert await world.calls("EchoPublic", "MALFORMED_REQUEST") == 1
    assert await world.in_flight("EchoPublic") == 0
    counts = (await world.samples())["sampan_call_seconds_count"]
    path = f"{PROBE}/EchoPublic"
    by_outcome = {
        outcome: counts[tuple(sorted(("probe", path, outcome)))] for outcome in ("ok", "refused", "failed")
    }
    assert by_outcome == {"ok": 2, "refused": 2, "failed": 1}


async def test_a_call_whose_caller_goes_away_is_counted_and_no_longer_in_flight(world: World) -> None:
    slow = probe.EchoRequest(text="hello")
    slow.delay.FromSeconds(60)
    call = world.channel.unary_unary(f"/{PROBE}/EchoPublic", probe.EchoRequest.SerializeToString)(slow)
    asking = asyncio.ensure_future(refuse(call))
    await until(lambda: world.in_flight("EchoPublic"), 1, within=20)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    await until(lambda: world.in_flight("EchoPublic"), 0, within=20)
    assert await world.calls("EchoPublic", "CANCELLED") == 1


async def test_streams_are_counted_without_a_latency(world: World) -> None:
    token = Minter.of(world.running._app).token("ann")
    down = world.channel.unary_stream(f"/{PROBE}/EchoDown", probe.EchoRequest.SerializeToString)
    async for _ in down(
        probe.EchoRequest(text="x", times=3), metadata=[("authorization", f"Bearer {token}")]
    ):
        pass
    await until(lambda: world.calls("EchoDown", "OK"), 1, within=20)
    names = {
        name for name in (await world.samples())["sampan_call_seconds_count"] if f"{PROBE}/EchoDown" in name
    }
    assert not names


async def test_a_stranger_s_names_do_not_become_labels(world: World) -> None:
    for name in ("/made.up/One", "/made.up/Two"):
        await refuse(world.channel.unary_unary(name)(b""))
    found = (await world.samples())["sampan_calls_total"]
    assert found["ROUTE_NOT_FOUND", "probe", "unknown"] == 2
    assert not any("made.up" in label for labels in found for label in labels)


async def test_only_get_metrics_is_answered(world: World) -> None:
    async with plain.client() as client:
        assert (await client.get(world.url.replace("/metrics", "/"))).status_code == 404
        assert (await client.post(world.url)).status_code == 404


async def test_a_part_that_does_not_answer_keeps_no_figure_of_others_back(pki: Pki) -> None:
    async def away() -> list[Gauge]:
        raise OSError

    async def here() -> list[Gauge]:
        return [Gauge("sampan_here", "It is.", 1.0, (("what", "this"),))]

    running = Running(probe_app(pki, Minter()), MeshSettings())
    service = running.counted
    observed = type(service)(service.name, service.calls, lambda: "127.0.0.1:1", (away, here))
    text, _ = await Process([observed], LoopLag(), lambda: (3, 4)).scrape("")
    assert b'sampan_here{service="probe",what="this"} 1.0' in text
    assert b'sampan_spans_total{fate="dropped"} 4.0' in text


async def test_a_part_s_histogram_has_its_own_buckets(pki: Pki) -> None:
    sizes = Distribution((1, 10))
    for size in (1, 5, 7, 100):
        sizes.add(size)

    async def part() -> list[Figure]:
        return [Histogram("sampan_sizes", "Of something.", sizes)]

    service = Running(probe_app(pki, Minter()), MeshSettings()).counted
    observed = type(service)(service.name, service.calls, lambda: "127.0.0.1:1", (part,))
    text, _ = await Process([observed], LoopLag(), lambda: (0, 0)).scrape("")
    for line in ('bucket{le="1",', 'bucket{le="10",', 'bucket{le="+Inf",', "count{", "sum{"):
        assert f"sampan_sizes_{line}".encode() in text
    lines = dict(line.rsplit(b" ", 1) for line in text.splitlines() if line.startswith(b"sampan_sizes"))
    assert sorted(map(float, lines.values())) == [1.0, 3.0, 4.0, 4.0, 113.0]
