"""Every RPC times everybody who may call it or may not, generated from the descriptors."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from services.analytics import app as _analytics
from services.identity import app as _identity
from services.mesh.app import App
from services.mesh.policy import Access, Method, service_methods
from services.mesh.settings import MeshSettings
from services.messaging import app as _messaging
from services.notification import app as _notification
from services.payment import app as _payment
from services.presence import app as _presence
from services.profile import app as _profile
from services.stack.pki import Pki
from services.web import app as _web
from services.web.settings import WebSettings
from services.workspace import app as _workspace
from tests.support.mesh import PROBE, Minter, channel_as, probe_app, serving, settings_of

SERVED = {
    "analytics": "sampan.analytics.v1.AnalyticsService",
    "identity": "sampan.identity.v1.IdentityService",
    "messaging": "sampan.messaging.v1.MessagingService",
    "notification": "sampan.notification.v1.NotificationInternalService",
    "payment": "sampan.payment.v1.PaymentService",
    "profile": "sampan.profile.v1.ProfileService",
    "presence": "sampan.presence.v1.PresenceService",
    "web": "sampan.web.v1.WebService",
    "workspace": "sampan.workspace.v1.WorkspaceService",
    "probe": PROBE,
}
assert _analytics
assert _identity
assert _messaging
assert _notification
assert _payment
assert _presence
assert _profile
assert _workspace
MATRIX = [
    pytest.param(service, method, caller, id=f"{method.path[1:]}-{caller}")
    for service, full_name in SERVED.items()
    for method in service_methods(full_name).values()
    for caller in ("anonymous", "user", "other_user", "admin", "service", "other_service")
]
# Reasons that the chain gives to those whom it does not let through.
REFUSALS = {
    "TOKEN_MISSING",
    "TOKEN_INVALID",
    "TOKEN_EXPIRED",
    "PERMISSION_DENIED",
    "CALLER_NOT_ALLOWED",
    "POLICY_MISSING",
}


def expected(method: Method, caller: str) -> str:
    """The refusal that the policy means for a caller, or the empty string."""
    signed_in = caller in {"user", "other_user", "admin"}
    if method.access is Access.MISSING:
        return "POLICY_MISSING"
    if method.access is Access.SERVICE:
        return "" if caller == "service" else "CALLER_NOT_ALLOWED"
    if method.access is Access.PUBLIC:
        return ""
    if not signed_in:
        return "TOKEN_MISSING"
    return "PERMISSION_DENIED" if method.access is Access.ADMIN and caller != "admin" else ""


@pytest.fixture(scope="module")
def minter() -> Minter:
    return Minter()


@pytest.fixture(scope="module")
async def addresses(
    identity: tuple[App, str],
    notification: tuple[App, str],
    profile: tuple[App, str],
    payment: tuple[App, str],
    analytics: tuple[App, str],
    presence: tuple[App, str],
    workspace: tuple[App, str],
    messaging: tuple[App, str],
    pki: Pki,
    minter: Minter,
) -> AsyncIterator[dict[str, str]]:
    mesh = MeshSettings(rate_limit_scale=10_000)
    web = await _web.build(mesh, (), "0", WebSettings(**settings_of("web", pki)))
    async with serving(web, mesh) as web_address, serving(probe_app(pki, minter), mesh) as probe_address:
        yield {
            "identity": identity[1],
            "notification": notification[1],
            "profile": profile[1],
            "payment": payment[1],
            "analytics": analytics[1],
            "presence": presence[1],
            "workspace": workspace[1],
            "messaging": messaging[1],
            "web": web_address,
            "probe": probe_address,
        }


def certificate_of(method: Method, caller: str) -> str:
    """Under whose certificate a caller comes: for `service` one that the method names."""
    if caller == "service":
        return min(method.callers, default="web")
    return "probe" if caller == "other_service" else "edge"


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason in an error's details."""
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"]).details[
        0
    ].Unpack(info)
    return info.reason


async def answer(channel: grpc.aio.Channel, method: Method, metadata: list[tuple[str, str]]) -> str:
    """The reason that an empty request is answered with; streams of requests are empty, too.

    A message that is still being written when the server refuses hides the refusal from this client.
    """
    try:
        if method.server_streaming:
            kind = channel.stream_stream if method.client_streaming else channel.unary_stream
            call = kind(method.path)(
                iter(()) if method.client_streaming else b"", metadata=metadata, timeout=10
            )
            async for _ in call:
                break
        elif method.client_streaming:
            await channel.stream_unary(method.path)(iter(()), metadata=metadata, timeout=10)
        else:
            await channel.unary_unary(method.path)(b"", metadata=metadata, timeout=10)
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    return ""


@pytest.mark.parametrize(("service", "method", "caller"), MATRIX)
async def test_access(
    service: str,
    method: Method,
    caller: str,
    addresses: dict[str, str],
    identity: tuple[App, str],
    profile: tuple[App, str],
    payment: tuple[App, str],
    analytics: tuple[App, str],
    presence: tuple[App, str],
    workspace: tuple[App, str],
    messaging: tuple[App, str],
    pki: Pki,
    minter: Minter,
) -> None:
    metadata = []
    if caller in {"user", "other_user", "admin"}:
        # These know a key of their own only; the others are asked with the key of the test.
        apps = {
            "identity": identity[0],
            "profile": profile[0],
            "payment": payment[0],
            "analytics": analytics[0],
            "presence": presence[0],
            "messaging": messaging[0],
            "workspace": workspace[0],
        }
        signer = Minter.of(apps[service]) if service in apps else minter
        token = signer.token(str(uuid.uuid4()), roles=["admin"] if caller == "admin" else None)
        metadata = [("authorization", f"Bearer {token}")]
    async with channel_as(certificate_of(method, caller), addresses[service], service, pki) as channel:
        reason = await answer(channel, method, metadata)
    wanted = expected(method, caller)
    if wanted:
        assert reason == wanted
    elif method.name != "GetMe":
        assert reason not in REFUSALS
    else:
        # The token is good; that its account does not exist is found out later.
        assert reason in {"", "TOKEN_INVALID"}
