"""A signed-in person: access tokens, refreshed before they end or when they were refused."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import Any

import grpc

from sampan.identity.v1 import identity_service_pb2 as identity
from sampan.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from services.client.backoff import Backoff
from services.client.calls import bearer, open_channel
from services.client.errors import ChatError, SignedOut, understood

# Refreshed when less than this share of its life is left.
_EARLY = 0.2
_TRIES = 5
_DEADLINE = 10.0


class Session:
    """Signs in by user name and password; gives access tokens to a ChatClient.

    A refresh repeats its `request_id` until it was answered, so an answer lost on the way costs nothing.
    """

    def __init__(
        self, target: str, credentials: grpc.ChannelCredentials | None, username: str, password: str
    ) -> None:
        self._channel = open_channel(target, credentials)
        self._stub = IdentityServiceStub(self._channel)
        self._username = username
        self._password = password
        self._user_id = ""
        self._access = ""
        self._refresh = ""
        self._renew_at = 0.0
        # Of the refresh under way; kept while its outcome is unknown.
        self._request_id = ""
        self._lock = asyncio.Lock()

    @property
    def user_id(self) -> str:
        """The account; empty before the first sign-in."""
        return self._user_id

    async def token(self, *, instead_of: str = "") -> str:
        """A good access token. Raises SignedOut when the session is over; the next call begins another."""
        async with self._lock:
            if not self._access:
                await self._sign_in()
            elif self._access == instead_of or time.monotonic() >= self._renew_at:
                await self._renew()
            return self._access

    async def register(self, display_name: str = "") -> None:
        """Makes the account and signs in. Raises ChatError when the name is taken."""
        request = identity.RegisterRequest(
            username=self._username,
            password=self._password,
            display_name=display_name,
            request_id=str(uuid.uuid4()),
        )
        self._keep(await self._ask(self._stub.Register, request))

    async def sign_out(self) -> None:
        """Ends the session, if there is one."""
        if not self._access:
            return
        request = identity.LogoutRequest(request_id=str(uuid.uuid4()))
        # It may have ended by itself.
        with contextlib.suppress(SignedOut):
            await self._ask(self._stub.Logout, request, bearer(self._access))
        self._access = self._refresh = ""

    async def close(self) -> None:
        """Ends the connection; the session goes on."""
        await self._channel.close(None)

    async def _sign_in(self) -> None:
        request = identity.LoginRequest(
            username=self._username, password=self._password, request_id=str(uuid.uuid4())
        )
        self._keep(await self._ask(self._stub.Login, request))

    async def _renew(self) -> None:
        self._request_id = self._request_id or str(uuid.uuid4())
        request = identity.RefreshTokenRequest(refresh_token=self._refresh, request_id=self._request_id)
        try:
            answer = await self._ask(self._stub.RefreshToken, request)
        except SignedOut:
            # Who was signed out on purpose does not sign in again by itself.
            self._access = self._refresh = self._request_id = ""
            raise
        self._request_id = ""
        self._keep(answer)

    def _keep(self, answer: Any) -> None:
        self._access, self._refresh = answer.access_token, answer.refresh_token
        self._renew_at = time.monotonic() + answer.expires_in * (1 - _EARLY)
        self._user_id = getattr(answer, "id", "") or self._user_id

    async def _ask(self, method: Any, request: Any, metadata: tuple[tuple[str, str], ...] = ()) -> Any:
        backoff, left = Backoff(0.1, 2.0), _TRIES
        while True:
            left -= 1
            try:
                return await method(request, timeout=_DEADLINE, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                shown = understood(error)
                if not left or not _again(shown):
                    raise shown from None
                await asyncio.sleep(backoff.wait(shown.retry_after))


def _again(error: ChatError) -> bool:
    """Nobody waits a minute for a limit at sign-in."""
    return error.passing and (error.retry_after or 0.0) <= 5.0
