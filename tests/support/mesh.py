"""A service behind the production chain and mTLS, in the test's own process."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sampan.probe.v1 import probe_service_pb2 as probe
from services.identity.keyring import KeyRing
from services.mesh import channels, errors, logs
from services.mesh.app import App
from services.mesh.call import Call
from services.mesh.settings import MeshSettings, ServiceSettings
from services.stack.pki import Pki
from services.stack.serve import Running

PROBE = "sampan.probe.v1.ProbeService"


class Minter:
    """Signs access tokens as identity would, and in every wrong way that a test asks for."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.kid = "test"

    @classmethod
    def of(cls, app: App) -> Minter:
        """One that signs with the key that a service trusts: a test's, or identity's own."""
        keys = app.keys
        if isinstance(keys, cls):
            return keys
        minter = cls()
        assert isinstance(keys, KeyRing)
        minter.key, minter.kid = keys.newest.private, keys.newest.kid
        return minter

    async def find(self, kid: str, /) -> Ed25519PublicKey | None:
        """The public key, for a verifier."""
        return self.key.public_key() if kid == self.kid else None

    def token(self, subject: str = "", **claims: Any) -> str:
        """A token that is good but for the claims given; a claim of None is left out."""
        return self.sign(self.claims(subject, **claims))

    def claims(self, subject: str = "", **changed: Any) -> dict[str, Any]:
        """Claims of a good token, with changes."""
        now = int(time.time())
        good: dict[str, Any] = {
            "iss": "sampan",
            "aud": "sampan",
            "sub": subject or str(uuid.uuid4()),
            "sid": str(uuid.uuid4()),
            "jti": str(uuid.uuid4()),
            "iat": now,
            "exp": now + 900,
        }
        return {name: value for name, value in (good | changed).items() if value is not None}

    def sign(self, claims: Mapping[str, Any], key: Ed25519PrivateKey | None = None) -> str:
        """Signs claims with the right key, or with another under the right key's id."""
        return jwt.encode(dict(claims), key or self.key, algorithm="EdDSA", headers={"kid": self.kid})


class ProbeServicer:
    """Implements the probe: echoes, waits or fails as told."""

    async def Echo(self, request: probe.EchoRequest, call: Call) -> probe.EchoResponse:
        if request.HasField("delay"):
            import asyncio

            await asyncio.sleep(request.delay.ToTimedelta().total_seconds())
        if request.fail:
            raise getattr(errors, request.fail, RuntimeError)
        return probe.EchoResponse(text=request.text, caller=call.user.id if call.user else call.caller)

    EchoPublic = EchoAdmin = EchoService = EchoOnce = EchoWithoutPolicy = Echo

    async def EchoDown(self, request: probe.EchoRequest, call: Call) -> AsyncIterator[probe.EchoResponse]:
        for _ in range(request.times):
            yield await self.Echo(request, call)

    async def EchoUp(self, requests: AsyncIterator[probe.EchoRequest], call: Call) -> probe.EchoResponse:
        last = probe.EchoRequest()
        async for request in requests:
            last = request
        return await self.Echo(last, call)

    async def EchoBoth(
        self, requests: AsyncIterator[probe.EchoRequest], call: Call
    ) -> AsyncIterator[probe.EchoResponse]:
        async for request in requests:
            yield await self.Echo(request, call)


def settings_of(name: str, pki: Pki, **more: Any) -> dict[str, Any]:
    """The settings that every service needs, with the certificate of one."""
    found = pki.identity(name)
    return {"tls_cert": found.certificate, "tls_key": found.key, "tls_ca": found.ca, **more}


def make_pki(folder: Path) -> Pki:
    """Certificates for all services that tests play."""
    pki = Pki(folder)
    pki.ensure(
        (
            "edge",
            "analytics",
            "operator",
            "probe",
            "web",
            "identity",
            "notification",
            "profile",
            "messaging",
            "workspace",
            "payment",
            "commerce",
            "presence",
        )
    )
    return pki


@asynccontextmanager
async def serving(app: App, mesh: MeshSettings | None = None) -> AsyncIterator[str]:
    """Serves an app behind the production chain; yields its address."""
    running = Running(app, mesh or MeshSettings())
    await running.start()
    try:
        yield running.server.address
    finally:
        await running.stop(notice=0, grace=0)


def probe_app(pki: Pki, minter: Minter, **settings: Any) -> App:
    """The probe as a service."""
    return App(
        name="probe",
        settings=ServiceSettings(**settings_of("probe", pki, **settings)),
        servicers={PROBE: ProbeServicer()},
        keys=minter,
    )


@asynccontextmanager
async def channel_as(caller: str, address: str, service: str, pki: Pki) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a service under the certificate of `caller`."""
    settings = ServiceSettings(**settings_of(caller, pki))
    channel = channels.channel([address], service, settings)
    try:
        yield channel
    finally:
        await channel.close(None)


logs.configure("tests", "error")
