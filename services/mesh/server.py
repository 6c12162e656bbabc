"""Builds the gRPC server of a service: handlers behind the chain, health, mTLS, limits, keepalive, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from structlog.typing import FilteringBoundLogger

from services.mesh.call import Call, arrived
from services.mesh.chain import Chain
from services.mesh.errors import RouteNotFound
from services.mesh.handlers import rpc_handler
from services.mesh.policy import Access, Method, service_methods

# gRPC itself must let through what the chain then refuses with a reason.
_SLACK = 4

KEEPALIVE = (
    # Envoy and other clients ping; without these gRPC takes that for abuse and drops the connection.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


def _unknown_method(details: grpc.HandlerCallDetails) -> Method:
    """A method that is in no contract. Streams both ways, which fits callers of any arity."""
    return Method(
        path=details.method[:256],
        service="",
        name="",
        access=Access.PUBLIC,
        callers=frozenset(),
        limits=(),
        deadline=None,
        retry=0,
        request=Empty,
        response=Empty,
        client_streaming=True,
        server_streaming=True,
    )


class _Nothing:
    """An answer stream that ends with ROUTE_NOT_FOUND before it begins."""

    def __aiter__(self) -> _Nothing:
        return self

    async def __anext__(self) -> Empty:
        raise RouteNotFound


def _refuse(_requests: AsyncIterator[Empty], _call: Call) -> _Nothing:
    return _Nothing()


class _Known(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """All methods of a service's contracts."""

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._handlers = handlers

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        arrived.set(handler_call_details.invocation_metadata)
        return self._handlers.get(handler_call_details.method)


class _Unknown(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """A clean answer for any other."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return rpc_handler(self._chain, _unknown_method(handler_call_details), _refuse)


def handlers_of(chain: Chain, servicers: Mapping[str, object]) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """Handlers by path. `servicers` maps the full name of a protobuf service to what has its methods.

    Raises AttributeError when a method of the contract is not implemented.
    """
    return {
        method.path: rpc_handler(chain, method, getattr(servicer, method.name))
        for full_name, servicer in servicers.items()
        for method in service_methods(full_name).values()
    }


class Server:
    """The gRPC server of one service. `address` is known after `start`."""

    def __init__(
        self,
        *,
        name: str,
        listen: str,
        credentials: grpc.ServerCredentials,
        chain: Chain,
        servicers: Mapping[str, object],
        log: FilteringBoundLogger,
        max_request_bytes: int,
        foreign: Sequence[grpc.GenericRpcHandler[Any, Any]] = (),
    ) -> None:
        self.name = name
        self.address = ""
        self._listen = listen
        self._credentials = credentials
        self._log = log
        self._health = HealthServicer()
        self._server = grpc.aio.server(
            options=(
                # A second server on the same port must fail, not share it silently.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", max_request_bytes * _SLACK),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", 32 * 1024),
                ("grpc.absolute_max_metadata_size", 64 * 1024),
                *KEEPALIVE,
            )
        )
        # They are asked in this order, at each call.
        self._server.add_generic_rpc_handlers((_Known(handlers_of(chain, servicers)), *foreign))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((_Unknown(chain),))
        self._names = tuple(servicers)

    async def start(self) -> None:
        """Listens and says SERVING. Raises OSError or RuntimeError when the address is taken."""
        host, _, _ = self._listen.rpartition(":")
        port = self._server.add_secure_port(self._listen, self._credentials)
        await self._server.start()
        self.address = f"{host}:{port}"
        await self._say(serving=True)
        self._log.info("server.started", service=self.name, address=self.address)

    async def stop(self, *, notice: float, grace: float, drain: Callable[[], None] = lambda: None) -> None:
        """Says NOT_SERVING, gives balancers `notice` seconds to see it, then `grace` to running calls.

        `drain` is called in between: calls that would never end are told to.
        """
        await self._say(serving=False)
        if notice:
            await asyncio.sleep(notice)
        drain()
        await self._server.stop(grace)
        self._log.info("server.stopped", service=self.name)

    async def _say(self, *, serving: bool) -> None:
        status = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)
