"""Tells a process's figures to Prometheus: as OpenMetrics with exemplars, or as plain text."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import psutil
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from services.mesh.metrics import OUTCOMES, Calls, Distribution, Figure, Gauge, Latency, LoopLag, Observe

PATH = "/metrics"
# Seconds that a part may take to say how it is: it is left out then, and the others are told.
_PATIENCE = 1.0
_REQUEST_SECONDS = 5.0
_REQUEST_LIMIT = 16_384


@dataclass(frozen=True, slots=True)
class Service:
    """What one service of the process counts and whom else to ask. `address` is where it listens."""

    name: str
    calls: Calls
    address: Callable[[], str]
    observed: Sequence[Observe] = ()


class Process:
    """All figures of one process."""

    def __init__(
        self,
        services: Sequence[Service],
        lag: LoopLag,
        spans: Callable[[], tuple[int, int]],
    ) -> None:
        self._services = services
        self._lag = lag
        self._spans = spans
        self._own = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._own)

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """The text that the Accept header wants, and its media type."""
        figures: list[tuple[str, Figure]] = [
            (one.name, figure) for one in self._services for figure in await self._ask(one)
        ]
        figures += await asyncio.to_thread(_connections, {one.address(): one.name for one in self._services})
        encode, media = choose_encoder(accept)
        registry = CollectorRegistry()
        registry.register(_Told([*self._counted(), *_families(figures), *self._own.collect()]))
        return encode(registry), media

    async def _ask(self, service: Service) -> list[Figure]:
        found = await asyncio.gather(*(_within(observe()) for observe in service.observed))
        return [figure for figures in found for figure in figures]

    def _counted(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "sampan_calls", "Calls that ended, by reason.", labels=("service", "method", "reason")
        )
        in_flight = GaugeMetricFamily(
            "sampan_calls_in_flight", "Calls that are being worked on.", labels=("service", "method")
        )
        seconds = HistogramMetricFamily(
            "sampan_call_seconds",
            "How long unary calls took, by how they ended: ok, refused (the caller's fault), failed (ours).",
            labels=("service", "method", "outcome"),
        )
        for service in self._services:
            for one in service.calls:
                in_flight.add_metric((service.name, one.method), one.in_flight)
                for reason, count in one.by_reason.items():
                    calls.add_metric((service.name, one.method, reason), count)
                for outcome in OUTCOMES:
                    _histogram(seconds, (service.name, one.method, outcome), one.latencies[outcome])
        lag = HistogramMetricFamily(
            "sampan_event_loop_lag_seconds", "How late the event loop was, once a second.", labels=()
        )
        _histogram(lag, (), self._lag.lag)
        exported, dropped = self._spans()
        spans = CounterMetricFamily("sampan_spans", "Spans by what became of them.", labels=("fate",))
        spans.add_metric(("exported",), exported)
        spans.add_metric(("dropped",), dropped)
        yield from (calls, in_flight, seconds, lag, spans)


class _Told:
    """Families as a registry wants them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._families


async def _within(observing: Awaitable[Sequence[Figure]]) -> Sequence[Figure]:
    """A part that is away says nothing, and does not keep the others from being told."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await observing
    except Exception:
        return ()


def _histogram(family: HistogramMetricFamily, labels: Sequence[str], told: Distribution) -> None:
    """What never happened is left out."""
    counts = list(told.counts)
    if not any(counts):
        return
    total = 0
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    exemplars = told.exemplars if isinstance(told, Latency) else {}
    for number, bound in enumerate([*map(str, told.bounds), "+Inf"]):
        total += counts[number]
        kept = exemplars.get(number)
        if kept is None:
            buckets.append((bound, total))
        else:
            trace_id, seconds, at = kept
            buckets.append((bound, total, Exemplar({"trace_id": trace_id}, seconds, at)))
    family.add_metric(labels, buckets, told.total)


def _families(found: Iterable[tuple[str, Figure]]) -> Iterator[Metric]:
    gauges: dict[str, GaugeMetricFamily] = {}
    histograms: dict[str, HistogramMetricFamily] = {}
    for service, figure in found:
        names = ("service", *(name for name, _ in figure.labels))
        labels = (service, *(value for _, value in figure.labels))
        if isinstance(figure, Gauge):
            if figure.name not in gauges:
                gauges[figure.name] = GaugeMetricFamily(figure.name, figure.help, labels=names)
            gauges[figure.name].add_metric(labels, figure.value)
        else:
            if figure.name not in histograms:
                histograms[figure.name] = HistogramMetricFamily(figure.name, figure.help, labels=names)
            _histogram(histograms[figure.name], labels, figure.distribution)
    yield from gauges.values()
    yield from histograms.values()


def _connections(services: dict[str, str]) -> list[tuple[str, Gauge]]:
    """Connections that others have opened to each service."""
    counts = dict.fromkeys(services.values(), 0)
    ports = {int(address.rpartition(":")[2] or 0): name for address, name in services.items()}
    for one in psutil.Process().net_connections("tcp"):
        if one.status == psutil.CONN_ESTABLISHED and one.laddr.port in ports:
            counts[ports[one.laddr.port]] += 1
    told = "Connections that others have opened to the service."
    return [(name, Gauge("sampan_connections", told, count)) for name, count in counts.items()]


class Listener:
    """Answers GET /metrics over plain HTTP, for a Prometheus on this machine or in this network."""

    def __init__(self, listen: str, scrape: Callable[[str], Awaitable[tuple[bytes, str]]]) -> None:
        self._listen = listen
        self._scrape = scrape
        self._server: asyncio.Server | None = None
        self.address = ""

    async def start(self) -> None:
        """Listens. Raises OSError when the address is taken."""
        host, _, port = self._listen.rpartition(":")
        self._server = await asyncio.start_server(self._serve, host, int(port), limit=_REQUEST_LIMIT)
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Listens no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                status, media, body = await self._answer(head)
                writer.write(
                    f"HTTP/1.1 {status}\r\ncontent-type: {media}\r\ncontent-length: {len(body)}\r\n"
                    "connection: close\r\n\r\n".encode()
                )
                writer.write(body)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()

    async def _answer(self, head: str) -> tuple[str, str, bytes]:
        request, *lines = head.split("\r\n")
        verb, _, rest = request.partition(" ")
        if verb != "GET" or rest.split(" ")[0].partition("?")[0] != PATH:
            return "404 Not Found", "text/plain", b"GET /metrics\n"
        wanted = (line.partition(":")[2] for line in lines if line.lower().startswith("accept:"))
        body, media = await self._scrape(next(wanted, "").strip())
        return "200 OK", media, body
