"""Channels to other services: mTLS, several addresses, and for each method what the contract says of it."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.mesh.breaker import Breaker
from services.mesh.call import current
from services.mesh.errors import DeadlineExceeded, SampanError, Unavailable
from services.mesh.ids import uuid7
from services.mesh.policy import Access, Method, method_at
from services.mesh.refusals import understood
from services.mesh.settings import ServiceSettings
from services.mesh.tls import channel_credentials, server_name

SUBJECT_HEADER = "x-sampan-subject"

# Four tries fit into half a second: longer than a replica takes to be found dead.
_RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.4s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
# Room for what a dying replica had in hand; a service that is away is not flooded with tries.
_THROTTLING = {"maxTokens": 400, "tokenRatio": 0.5}

# A callee that had at least this many seconds, or all that the contract gives, should have answered.
_ENOUGH = 1.0


def service_config(methods: Iterable[Method] = ()) -> str:
    """gRPC's service config: balanced over healthy addresses; deadlines and retries from the contract."""
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": ""},
            "retryThrottling": _THROTTLING,
            "methodConfig": [_method_config(method) for method in methods],
        }
    )


def _method_config(method: Method) -> dict[str, Any]:
    config: dict[str, Any] = {"name": [{"service": method.service, "method": method.name}]}
    if method.deadline is not None:
        config["timeout"] = f"{method.deadline:.3f}s"
    if method.retry_safe:
        config["retryPolicy"] = _RETRY
    return config


def channel(
    addresses: Sequence[str], service: str, settings: ServiceSettings, methods: Iterable[Method] = ()
) -> grpc.aio.Channel:
    """A bare channel to a service, under the certificate of the one whose settings these are.

    `addresses` are `host:port`; calls go in turn to those that say SERVING. The server must have the
    service's DNS name.
    """
    return grpc.aio.secure_channel(
        target(addresses),
        channel_credentials(settings.tls_cert, settings.tls_key, settings.tls_ca),
        options=(
            ("grpc.ssl_target_name_override", server_name(service)),
            ("grpc.service_config", service_config(methods)),
            ("grpc.initial_reconnect_backoff_ms", 100),
            # How long connecting with its handshake may take.
            ("grpc.min_reconnect_backoff_ms", 3000),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ),
    )


def target(addresses: Sequence[str]) -> str:
    """Addresses as gRPC wants them: numbers as they are; one name may stand for many numbers."""
    if len(addresses) == 1 and not addresses[0].rpartition(":")[0].replace(".", "").isdigit():
        return f"dns:///{addresses[0]}"
    return f"ipv4:{','.join(addresses)}"


async def is_serving(opened: grpc.aio.Channel, timeout: float) -> bool:
    """Whether the service at a channel says SERVING within `timeout` seconds. Does not raise."""
    try:
        answer = await health_pb2_grpc.HealthStub(opened).Check(
            health_pb2.HealthCheckRequest(), timeout=timeout
        )
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


_acting_for: ContextVar[str] = ContextVar("acting_for", default="")


@contextmanager
def acting_for(subject: str) -> Iterator[None]:
    """Within it a service calls by itself and names whom it is about; no person's token goes along."""
    token = _acting_for.set(subject)
    try:
        yield
    finally:
        _acting_for.reset(token)


class Peer:
    """Another service. Generated stubs are made on its `channel`, which is opened by the first call.

    Calls carry what is left of the current call's time, its trace, and in whose name it is: the person's
    token to methods for persons, the name of the subject to methods for services. They raise SampanError.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        service: str,
        settings: ServiceSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._addresses = tuple(addresses)
        self._service = service
        self._settings = settings
        # By path: several stubs of one contract are fine.
        self._methods: dict[str, Method] = {}
        self._channel: grpc.aio.Channel | None = None
        self._targets: dict[str, Any] = {}
        self.breaker = Breaker(clock)

    @property
    def channel(self) -> grpc.aio.Channel:
        """What generated stubs take: as much of a channel as they use."""
        return cast(grpc.aio.Channel, self)

    # What generated stubs call when they are made.

    def unary_unary(self, path: str, **codec: Any) -> Callable[..., Any]:
        """A method of one request and one answer, as a coroutine function."""
        return self._one_answer("unary_unary", path, codec)

    def stream_unary(self, path: str, **codec: Any) -> Callable[..., Any]:
        """A method of many requests and one answer, as a coroutine function."""
        return self._one_answer("stream_unary", path, codec)

    def unary_stream(self, path: str, **codec: Any) -> Callable[..., Any]:
        """A method of one request and many answers, as an async generator function."""
        return self._many_answers("unary_stream", path, codec)

    def stream_stream(self, path: str, **codec: Any) -> Callable[..., Any]:
        """A method of many requests and many answers, as an async generator function."""
        return self._many_answers("stream_stream", path, codec)

    async def close(self) -> None:
        """Ends the channel and the calls on it."""
        if self._channel is not None:
            await self._channel.close(None)

    def _one_answer(self, arity: str, path: str, codec: dict[str, Any]) -> Callable[..., Any]:
        method = self._known(path)

        async def call(request: Any, *, timeout: float | None = None, wait_for_ready: bool = False) -> Any:
            seconds = _time_for(method, timeout)
            target = self._target(arity, path, codec)
            try:
                answer = await target(
                    _identified(request),
                    timeout=seconds,
                    metadata=_metadata(method),
                    wait_for_ready=wait_for_ready,
                )
            except grpc.aio.AioRpcError as error:
                raise self._failure(error, method, seconds) from error
            self.breaker.succeeded()
            return answer

        return call

    def _many_answers(self, arity: str, path: str, codec: dict[str, Any]) -> Callable[..., Any]:
        method = self._known(path)

        async def call(request: Any, *, timeout: float | None = None) -> AsyncIterator[Any]:
            seconds = _time_for(method, timeout)
            target = self._target(arity, path, codec)
            try:
                async for answer in target(_identified(request), timeout=seconds, metadata=_metadata(method)):
                    self.breaker.succeeded()
                    yield answer
            except grpc.aio.AioRpcError as error:
                raise self._failure(error, method, seconds) from error

        return call

    def _known(self, path: str) -> Method:
        if self._channel is not None:
            raise RuntimeError("all stubs of a peer are made before its first call")
        return self._methods.setdefault(path, method_at(path))

    def _target(self, arity: str, path: str, codec: dict[str, Any]) -> Any:
        """The method on the open channel. Raises Unavailable when the breaker is open or nobody is known."""
        if not self._addresses:
            raise Unavailable
        self.breaker.enter()
        if self._channel is None:
            self._channel = channel(self._addresses, self._service, self._settings, self._methods.values())
        if path not in self._targets:
            self._targets[path] = getattr(self._channel, arity)(path, **codec)
        return self._targets[path]

    def _failure(self, error: grpc.aio.AioRpcError, method: Method, seconds: float | None) -> SampanError:
        shown = understood(error)
        if isinstance(shown, Unavailable):
            self.breaker.failed()
        elif not isinstance(shown, DeadlineExceeded):
            self.breaker.succeeded()
        elif seconds is not None and (seconds >= _ENOUGH or seconds == method.deadline):
            # A caller in a hurry says nothing about the callee.
            self.breaker.failed()
        return shown


def _time_for(method: Method, timeout: float | None) -> float | None:
    """Seconds that a call may take. Raises DeadlineExceeded when the current call has none left."""
    limits = [seconds for seconds in (method.deadline, timeout) if seconds is not None]
    call = current.get()
    if call is not None and call.ends != math.inf:
        limits.append(call.ends - time.perf_counter())
    if not limits:
        return None
    seconds = min(limits)
    if seconds <= 0:
        raise DeadlineExceeded
    return seconds


def _metadata(method: Method) -> tuple[tuple[str, str], ...]:
    """Who calls in whose name, and as part of which trace."""
    found = []
    call = current.get()
    subject = _acting_for.get()
    if call is not None:
        came = call.text("traceparent")
        # Whether the trace is kept was said by whoever began it; what was no traceparent says nothing.
        flags = came[-2:] if came[3:35] == call.trace_id else "00"
        found.append(("traceparent", f"00-{call.trace_id}-{secrets.token_hex(8)}-{flags}"))
        if method.access in (Access.USER, Access.ADMIN) and call.user is not None and not subject:
            found.append(("authorization", call.text("authorization")))
        subject = subject or (call.user.id if call.user is not None else call.subject)
    if subject and method.access is Access.SERVICE:
        found.append((SUBJECT_HEADER, subject))
    return tuple(found)


def _identified(request: Any) -> Any:
    """The request with a `request_id` of its own, so that all tries of this call are one to the callee."""
    if not isinstance(request, Message):
        return request
    field = request.DESCRIPTOR.fields_by_name.get("request_id")
    if field is None or field.type != field.TYPE_STRING or getattr(request, "request_id"):  # noqa: B009
        return request
    # A copy: the same object in a second call is a second call.
    identified = type(request)()
    identified.CopyFrom(request)
    setattr(identified, "request_id", str(uuid7()))  # noqa: B010
    return identified
