"""Keys by which a request is told from another one, and from itself sent again, for ever."""

from __future__ import annotations

import hashlib
from uuid import UUID


class RequestKeys:
    """Makes keys and hashes. `secret`, up to 64 bytes, keys both: nobody finds two requests with one key."""

    def __init__(self, secret: bytes) -> None:
        self._blank = hashlib.blake2b(key=secret, digest_size=16)

    def key(self, caller: str, method: str, request_id: str) -> UUID | None:
        """The key of a request; None without a `request_id`, which counts in whatever form it was written."""
        if not request_id:
            return None
        return UUID(bytes=self.hash(caller, method, str(UUID(request_id))))

    def hash(self, *parts: str) -> bytes:
        """Keyed hash of what a request says. Only the last part may be a free text."""
        digest = self._blank.copy()
        digest.update("\0".join(parts).encode())
        return digest.digest()
