"""Channels to other services: mTLS, several addresses, balanced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.mesh.errors import Unavailable
from services.mesh.settings import ServiceSettings
from services.mesh.tls import channel_credentials, server_name

_SERVICE_CONFIG = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


def channel(addresses: Sequence[str], service: str, settings: ServiceSettings) -> grpc.aio.Channel:
    """A channel to a service, under the certificate of the one whose settings these are.

    `addresses` are `host:port`; calls go to them in turn. The server must have the service's DNS name.
    """
    return grpc.aio.secure_channel(
        target(addresses),
        channel_credentials(settings.tls_cert, settings.tls_key, settings.tls_ca),
        options=(
            ("grpc.ssl_target_name_override", server_name(service)),
            ("grpc.service_config", _SERVICE_CONFIG),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ),
    )


def target(addresses: Sequence[str]) -> str:
    """Addresses as gRPC wants them: numbers as they are; one name may stand for many numbers."""
    if len(addresses) == 1 and not addresses[0].rpartition(":")[0].replace(".", "").isdigit():
        return f"dns:///{addresses[0]}"
    return f"ipv4:{','.join(addresses)}"


@contextmanager
def unavailable() -> Iterator[None]:
    """Around a call to another service: whatever goes wrong there, the caller is told UNAVAILABLE."""
    try:
        yield
    except grpc.RpcError as error:
        raise Unavailable from error


async def is_serving(opened: grpc.aio.Channel, timeout: float) -> bool:
    """Whether the service at a channel says SERVING within `timeout` seconds. Does not raise."""
    try:
        answer = await health_pb2_grpc.HealthStub(opened).Check(
            health_pb2.HealthCheckRequest(), timeout=timeout
        )
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
