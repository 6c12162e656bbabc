"""mTLS between services: who may connect at all, and the name in a caller's certificate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import grpc

SPIFFE_PREFIX = "spiffe://sampan/"

# The name in the certificate of the edge: what it says of a client is believed.
EDGE = "edge"
# Who holds a certificate without being a service.
NOT_SERVICES = frozenset(("", EDGE, "operator"))


def server_credentials(cert: Path, key: Path, authority: Path) -> grpc.ServerCredentials:
    """Credentials of a server that refuses callers without a certificate of the mesh's authority."""
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), cert.read_bytes())],
        root_certificates=authority.read_bytes(),
        require_client_auth=True,
    )


def channel_credentials(cert: Path, key: Path, authority: Path) -> grpc.ChannelCredentials:
    """Credentials of a client of the mesh."""
    return grpc.ssl_channel_credentials(
        root_certificates=authority.read_bytes(),
        private_key=key.read_bytes(),
        certificate_chain=cert.read_bytes(),
    )


def server_name(service: str) -> str:
    """The DNS name in a service's certificate."""
    return f"{service}.sampan.internal"


def caller_name(auth_context: Mapping[str, Iterable[bytes]]) -> str:
    """The service that a client certificate names, or the empty string."""
    for identity in auth_context.get("peer_spiffe_id", ()):
        name = identity.decode("ascii", "replace")
        if name.startswith(SPIFFE_PREFIX):
            return name.removeprefix(SPIFFE_PREFIX)
    return ""
