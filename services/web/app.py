"""Composition root of web."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from services.mesh import liveness
from services.mesh.app import App
from services.mesh.auth import NoKeys
from services.mesh.channels import LastingChannel, is_serving
from services.mesh.clock import Clock, system_clock
from services.mesh.settings import MeshSettings
from services.web.docs import Docs
from services.web.reflection import Reflection
from services.web.service import Probe, WebService
from services.web.servicer import WebServicer
from services.web.settings import WebSettings

GEN = Path(__file__).resolve().parents[2] / "gen"
DESCRIPTORS = GEN / "descriptors.binpb"
OPENAPI = GEN / "openapi.json"


async def build(
    mesh: MeshSettings,
    public: tuple[str, ...],
    version: str,
    settings: WebSettings | None = None,
    clock: Clock = system_clock,
) -> App:
    """Builds the service. `public` names the protobuf services that reflection tells of."""
    settings = settings or WebSettings()
    channels = {
        name: LastingChannel(addresses, name, settings) for name, addresses in mesh.peers.items() if addresses
    }
    service = WebService(
        services={name: _service_probe(opened, settings.probe_timeout) for name, opened in channels.items()},
        servers={
            name: partial(liveness.PROBES[name], host, port) for name, (host, port) in mesh.parts.items()
        },
        version=version,
        max_age=settings.health_max_age,
        clock=clock,
    )

    async def close() -> None:
        for opened in channels.values():
            await opened.close()

    reflects = mesh.environment != "production"
    return App(
        name="web",
        settings=settings,
        servicers={"sampan.web.v1.WebService": WebServicer(service, Docs(OPENAPI.read_bytes()))},
        keys=NoKeys(),
        foreign=(Reflection(DESCRIPTORS.read_bytes(), public),) if reflects else (),
        closers=(close,),
    )


def _service_probe(opened: LastingChannel, timeout: float) -> Probe:
    async def probe() -> bool:
        return await is_serving(opened.current(), timeout)

    return probe
