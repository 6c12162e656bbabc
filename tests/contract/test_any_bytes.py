"""Whatever bytes come, each RPC answers with a reason of the contract: no crash, no inner text."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.analytics.v1 import analytics_service_pb2 as _analytics
from sampan.identity.v1 import identity_service_pb2 as _identity
from sampan.messaging.v1 import messaging_internal_service_pb2 as _messaging_internal
from sampan.messaging.v1 import messaging_service_pb2 as _messaging
from sampan.notification.v1 import notification_internal_service_pb2 as _notification
from sampan.payment.v1 import payment_internal_service_pb2 as _payment_internal
from sampan.payment.v1 import payment_service_pb2 as _payment
from sampan.presence.v1 import presence_internal_service_pb2 as _presence_internal
from sampan.presence.v1 import presence_service_pb2 as _presence
from sampan.profile.v1 import profile_service_pb2 as _profile
from sampan.web.v1 import web_service_pb2 as _web
from sampan.workspace.v1 import workspace_service_pb2 as _workspace
from services.mesh.app import App
from services.mesh.policy import Access, Method, service_methods
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from services.web import app as web_app
from services.web.settings import WebSettings
from tests.support.mesh import Minter, channel_as, serving, settings_of
from tests.support.messages import requests

assert _analytics
assert _identity
assert _messaging
assert _messaging_internal
assert _notification
assert _payment
assert _payment_internal
assert _presence
assert _presence_internal
assert _profile
assert _web
assert _workspace
METHODS = {
    "analytics": service_methods("sampan.analytics.v1.AnalyticsService"),
    "identity": service_methods("sampan.identity.v1.IdentityService"),
    "messaging": {
        name: method
        for service in ("MessagingService", "MessagingInternalService")
        for name, method in service_methods(f"sampan.messaging.v1.{service}").items()
        # Streams have tests of their own.
        if not method.server_streaming
    },
    "notification": service_methods("sampan.notification.v1.NotificationInternalService"),
    "profile": service_methods("sampan.profile.v1.ProfileService"),
    "payment": {
        name: method
        for service in ("PaymentService", "PaymentInternalService")
        for name, method in service_methods(f"sampan.payment.v1.{service}").items()
        if not method.client_streaming
    },
    "presence": service_methods("sampan.presence.v1.PresenceService")
    | service_methods("sampan.presence.v1.PresenceInternalService"),
    "web": service_methods("sampan.web.v1.WebService"),
    "workspace": service_methods("sampan.workspace.v1.WorkspaceService"),
}
ALL = [
    pytest.param(service, method, id=method.path[1:])
    for service, methods in METHODS.items()
    for method in methods.values()
]
LEAKS = ("Traceback", "asyncpg", "sqlalchemy", "psycopg", "Error(", 'File "', "SELECT", "INSERT", "0x")


def caller_of(method: Method) -> str:
    """The edge, or for a method that the edge may not call one that may."""
    return min(method.callers, default="edge")


@pytest.fixture(scope="module")
async def channels(
    identity: tuple[App, str],
    notification: tuple[App, str],
    profile: tuple[App, str],
    payment: tuple[App, str],
    analytics: tuple[App, str],
    presence: tuple[App, str],
    workspace: tuple[App, str],
    messaging: tuple[App, str],
    pki: Pki,
) -> AsyncIterator[dict[tuple[str, str], grpc.aio.Channel]]:
    """Channels by service and by who calls."""
    mesh = MeshSettings(rate_limit_scale=1_000_000)
    web = await web_app.build(mesh, (), "0", WebSettings(**settings_of("web", pki)))
    async with serving(web, mesh) as web_address, AsyncExitStack() as opened:
        addresses = {
            "identity": identity[1],
            "notification": notification[1],
            "profile": profile[1],
            "payment": payment[1],
            "analytics": analytics[1],
            "presence": presence[1],
            "workspace": workspace[1],
            "messaging": messaging[1],
            "web": web_address,
        }
        yield {
            (service, caller): await opened.enter_async_context(
                channel_as(caller, addresses[service], service, pki)
            )
            for service, methods in METHODS.items()
            for caller in {caller_of(method) for method in methods.values()}
        }


@pytest.mark.parametrize(("service", "method"), ALL)
@settings(
    # Each is a call with all that belongs to it.
    max_examples=settings().max_examples // 4,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_any_bytes(
    service: str,
    method: Method,
    data: st.DataObject,
    channels: dict[tuple[str, str], grpc.aio.Channel],
    identity: tuple[App, str],
    profile: tuple[App, str],
    payment: tuple[App, str],
    analytics: tuple[App, str],
    presence: tuple[App, str],
    workspace: tuple[App, str],
    messaging: tuple[App, str],
) -> None:
    raw = data.draw(requests(method.request))
    metadata = []
    if method.access is not Access.PUBLIC:
        apps = {
            "profile": profile[0],
            "payment": payment[0],
            "analytics": analytics[0],
            "presence": presence[0],
            "messaging": messaging[0],
            "workspace": workspace[0],
        }
        signer = Minter.of(apps.get(service, identity[0]))
        roles = ["admin"] if method.access is Access.ADMIN else None
        metadata = [("authorization", f"Bearer {signer.token(str(uuid.uuid4()), roles=roles)}")]
    try:
        channel = channels[service, caller_of(method)]
        answer = await channel.unary_unary(method.path)(raw, metadata=metadata, timeout=20)
    except grpc.aio.AioRpcError as error:
        assert error.code() not in {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}, (raw, error)
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        info = error_details_pb2.ErrorInfo()
        status = status_pb2.Status.FromString(details)
        status.details[0].Unpack(info)
        assert info.reason
        assert info.domain.startswith("sampan")
        for leak in LEAKS:
            assert leak not in status.message
    else:
        method.response.FromString(answer)
