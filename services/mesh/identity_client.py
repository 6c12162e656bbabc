"""What services ask of identity: the keys of access tokens, and which sessions have ended."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import Context
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sampan.identity.v1 import identity_internal_service_pb2, identity_service_pb2
from sampan.identity.v1.identity_internal_service_pb2_grpc import IdentityInternalServiceStub
from sampan.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from services.mesh.channels import Peer
from services.mesh.clock import Clock
from services.mesh.revocation import Page, Revocation

# An unknown key id asks again, but not more often than this, in seconds.
_RELOAD_SECONDS = 1.0
_TIMEOUT = 2.0


class IdentityClient:
    """Keys and revocations, asked of identity.

    Keys that were seen once are remembered, so that tokens are verified while identity is away.
    """

    def __init__(self, identity: Peer, clock: Clock) -> None:
        self._public = IdentityServiceStub(identity.channel)
        self._internal = IdentityInternalServiceStub(identity.channel)
        self._clock = clock
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._loaded_at = float("-inf")
        self._loading: asyncio.Task[None] | None = None

    async def find(self, kid: str, /) -> Ed25519PublicKey | None:
        """The public key of an id, or None. Raises Unavailable or DeadlineExceeded when none could be had.

        Only identity's answer makes a key unknown: no caller is told so while the question is under way.
        """
        if kid not in self._keys and self._clock() - self._loaded_at >= _RELOAD_SECONDS:
            await self._load_for_all()
        return self._keys.get(kid)

    async def _load_for_all(self) -> None:
        """One question on behalf of all that wait; it is none of theirs, so it has no deadline of theirs."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(), context=Context())
            self._loading.add_done_callback(self._asked)
        await asyncio.shield(self._loading)

    async def _load(self) -> None:
        answer = await self._public.GetJwks(identity_service_pb2.GetJwksRequest(), timeout=_TIMEOUT)
        self._keys = {key.kid: _public_key(key.x) for key in answer.keys if key.crv == "Ed25519"}
        self._loaded_at = self._clock()

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._loading = None
        if not task.cancelled():
            # Whoever waited has it; when all have gone away it is of no interest.
            task.exception()

    async def revocations(self, after: int) -> AsyncGenerator[Page]:
        """What ended after a number, and what ends. Raises Unavailable."""
        request = identity_internal_service_pb2.WatchRevocationsRequest(after=after)
        answers = cast(
            AsyncGenerator[identity_internal_service_pb2.WatchRevocationsResponse],
            self._internal.WatchRevocations(request),
        )
        async with aclosing(answers):
            async for answer in answers:
                yield Page(
                    [
                        Revocation(one.number, one.session_id, one.until.ToNanoseconds() / 1e9)
                        for one in answer.revocations
                    ],
                    answer.complete,
                )


def _public_key(x: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)))
