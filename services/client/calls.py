"""Unary calls: in somebody's name, tried again by the same ids until the answer is known."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from services.client.backoff import Backoff
from services.client.errors import ChatError, SignedOut, understood

Answer = TypeVar("Answer", bound=Message)

# Finds connections that died without a word; the edge and the services accept pings at this pace.
_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class TokenProvider(Protocol):
    """Whoever has the access token."""

    @property
    def user_id(self) -> str:
        """Whose it is; known once a token was given."""

    async def token(self, *, instead_of: str = "") -> str:
        """A good access token, other than one that was refused. Raises ChatError when there is none."""


def open_channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """A channel to `host:port`; in the clear without credentials."""
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)


def identified(request: Any) -> Any:
    """The request with a `request_id`, so that all tries of it are one to the server."""
    field = request.DESCRIPTOR.fields_by_name.get("request_id")
    if field is not None and not request.request_id:
        made = type(request)()
        made.CopyFrom(request)
        made.request_id = str(uuid.uuid4())
        return made
    return request


class Caller:
    """Makes calls for a person. `patience`: seconds to go on trying; `deadline`: seconds of one try."""

    def __init__(self, tokens: TokenProvider, *, patience: float = 20.0, deadline: float = 5.0) -> None:
        self._tokens = tokens
        self._patience = patience
        self._deadline = deadline

    async def call(self, method: Callable[..., Any], request: Message) -> Any:
        """The answer of a stub's method. Raises ChatError; Unreachable when nobody answered in time."""
        ends = time.monotonic() + self._patience
        backoff = Backoff(0.1, 2.0)
        request = identified(request)
        refused = ""
        while True:
            token = await self._tokens.token(instead_of=refused)
            try:
                return await self._once(method, request, token, ends)
            except SignedOut:
                # Refused twice with fresh tokens means it.
                if refused:
                    raise
                refused = token
            except ChatError as error:
                wait = backoff.wait(error.retry_after)
                if not error.passing or time.monotonic() + wait > ends:
                    raise
                await asyncio.sleep(wait)

    async def _once(self, method: Callable[..., Any], request: Message, token: str, ends: float) -> Any:
        left = max(0.1, min(self._deadline, ends - time.monotonic()))
        try:
            return await method(request, timeout=left, metadata=bearer(token))
        except grpc.aio.AioRpcError as error:
            raise understood(error) from None


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that signs a call."""
    return (("authorization", f"Bearer {token}"),)
