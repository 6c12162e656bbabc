"""Signatures of callbacks: HMAC-SHA256 over time and body, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re

from services.mesh.clock import Clock
from services.payment.errors import CallbackStale, SignatureInvalid

# Seconds since the epoch, and `v1=` with the digest in hexadecimal.
TIMESTAMP = "callback-timestamp"
SIGNATURE = "callback-signature"
_VERSION = "v1="
_SECONDS = re.compile(r"[0-9]{1,12}")


class Signer:
    """Signs with a secret that provider and we share, and knows its own signatures."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise ValueError("a secret has 32 bytes or more")
        self._secret = secret

    def headers(self, body: bytes, at: int) -> dict[str, str]:
        """The headers that go with a body, signed at a second since the epoch."""
        return {TIMESTAMP: str(at), SIGNATURE: _VERSION + self._digest(str(at), body)}

    def check(self, timestamp: str, signature: str, body: bytes) -> None:
        """Raises SignatureInvalid for what was not signed with the secret."""
        # A bad timestamp costs as much as a good one: nothing is told by how long the answer takes.
        expected = _VERSION + self._digest(timestamp, body)
        same = hmac.compare_digest(expected.encode(), signature.encode())
        if not same or not _SECONDS.fullmatch(timestamp):
            raise SignatureInvalid

    def _digest(self, timestamp: str, body: bytes) -> str:
        return hmac.new(self._secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def require_fresh(timestamp: str, clock: Clock, tolerance: float) -> None:
    """Raises CallbackStale for what was signed longer ago than `tolerance` seconds, or as far ahead."""
    if abs(clock() - int(timestamp)) > tolerance:
        raise CallbackStale
