"""mTLS between services: who may connect at all, and the name in a caller's certificate."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

SPIFFE_PREFIX = "spiffe://sampan/"

# The name in the certificate of the edge: what it says of a client is believed.
EDGE = "edge"
# Who holds a certificate without being a service.
NOT_SERVICES = frozenset(("", EDGE, "operator"))


# How often, in seconds, files are looked at.
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate, its key, and the authority that peers must come from, all in PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes


class Certificate:
    """The certificate that lies in three files now: a running process follows when it is renewed."""

    def __init__(
        self, cert: Path, key: Path, authority: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._paths = (cert, key, authority)
        self._clock = clock
        self._marks = self._look()
        self._pem = self._read()
        self._looked_at = clock()

    def current(self) -> Pem:
        """The newest whole one; the same object as long as nothing has changed. At most a second old."""
        now = self._clock()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            # Half of it may be written yet: the one that we have is good for days.
            with contextlib.suppress(OSError, ValueError):
                self._follow()
        return self._pem

    def load_into(self, context: ssl.SSLContext) -> None:
        """Has new connections of a server of our own served under the files as they are."""
        certificate, key, _ = self._paths
        context.load_cert_chain(certificate, key)

    def _follow(self) -> None:
        marks = self._look()
        if marks == self._marks:
            return
        found = self._read()
        if _fits(found):
            self._pem, self._marks = found, marks

    def _look(self) -> tuple[tuple[int, int], ...]:
        return tuple((found.st_ino, found.st_mtime_ns) for found in (path.stat() for path in self._paths))

    def _read(self) -> Pem:
        return Pem(*(path.read_bytes() for path in self._paths))


def _fits(pem: Pem) -> bool:
    """Whether key and certificate are a pair: of two files one is written first. May raise ValueError."""
    certified = load_pem_x509_certificate(pem.certificate).public_key()
    return certified == load_pem_private_key(pem.key, None).public_key()


def server_credentials(certificate: Certificate) -> grpc.ServerCredentials:
    """Credentials of a server that refuses callers without a certificate of the mesh's authority.

    Each new connection is served under the certificate of its time.
    """
    served = [certificate.current()]

    def changed() -> grpc.ServerCertificateConfiguration | None:
        found = certificate.current()
        if found is served[0]:
            return None
        served[0] = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(served[0]),
        changed,  # type: ignore[arg-type]  # None is documented; the stub does not know.
        require_client_authentication=True,
    )


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.authority)


def channel_credentials(cert: Path, key: Path, authority: Path) -> grpc.ChannelCredentials:
    """Credentials of a client of the mesh that does not live long."""
    return credentials_of(Pem(cert.read_bytes(), key.read_bytes(), authority.read_bytes()))


def credentials_of(pem: Pem) -> grpc.ChannelCredentials:
    """Credentials of a client of the mesh."""
    return grpc.ssl_channel_credentials(
        root_certificates=pem.authority, private_key=pem.key, certificate_chain=pem.certificate
    )


def server_name(service: str) -> str:
    """The DNS name in a service's certificate."""
    return f"{service}.sampan.internal"


def caller_name(identities: Iterable[bytes] | None) -> str:
    """The service that a client certificate names among its URIs and DNS names, or the empty string."""
    for identity in identities or ():
        name = identity.decode("ascii", "replace")
        if name.startswith(SPIFFE_PREFIX):
            return name.removeprefix(SPIFFE_PREFIX)
    return ""
