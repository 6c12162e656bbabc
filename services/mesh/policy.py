"""Reads the policy options of the contract: what a method's descriptor says about who may call it and how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from sampan.options.v1 import policy_pb2


class Access(Enum):
    """Who may call. MISSING is what a forgotten policy means: nobody."""

    MISSING = policy_pb2.ACCESS_UNSPECIFIED
    PUBLIC = policy_pb2.ACCESS_PUBLIC
    USER = policy_pb2.ACCESS_USER
    ADMIN = policy_pb2.ACCESS_ADMIN
    SERVICE = policy_pb2.ACCESS_SERVICE


class Scope(Enum):
    """What a rate limit counts by."""

    USER = policy_pb2.LIMIT_SCOPE_USER
    ADDRESS = policy_pb2.LIMIT_SCOPE_ADDRESS


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `calls` in `seconds`, as a token bucket."""

    scope: Scope
    calls: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC with its policy. `path` is `/package.Service/Method`; `deadline` in seconds or None."""

    path: str
    service: str
    name: str
    access: Access
    callers: frozenset[str]
    limits: tuple[RateLimit, ...]
    deadline: float | None
    retry: int
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool

    @property
    def retry_safe(self) -> bool:
        """Whether the same request may be sent again, with its `request_id` where the contract has one."""
        return self.retry in (policy_pb2.RETRY_SAFE, policy_pb2.RETRY_WITH_REQUEST_ID)


class PolicyError(Exception):
    """A policy that contradicts itself; the service does not start."""


def method_of(descriptor: MethodDescriptor) -> Method:
    """The method with its policy. Without one its access is MISSING."""
    policy = descriptor.GetOptions().Extensions[policy_pb2.policy]
    service = descriptor.containing_service
    method = Method(
        path=f"/{service.full_name}/{descriptor.name}",
        service=service.full_name,
        name=descriptor.name,
        access=Access(policy.access),
        callers=frozenset(policy.callers),
        limits=tuple(_limit(limit, descriptor) for limit in policy.rate_limits),
        deadline=_seconds(policy.deadline.seconds, policy.deadline.nanos)
        if policy.HasField("deadline")
        else None,
        retry=policy.retry,
        request=message_factory.GetMessageClass(descriptor.input_type),
        response=message_factory.GetMessageClass(descriptor.output_type),
        client_streaming=descriptor.client_streaming,
        server_streaming=descriptor.server_streaming,
    )
    problem = contradiction(method)
    if problem:
        raise PolicyError(f"{method.path}: {problem}")
    return method


def contradiction(method: Method) -> str | None:
    """What is wrong with a policy, in words; None when nothing is or when there is no policy at all."""
    if method.access is Access.MISSING:
        return None
    internal = method.access is Access.SERVICE
    by_user = any(limit.scope is Scope.USER for limit in method.limits)
    checks = (
        (internal != bool(method.callers), "callers belong to ACCESS_SERVICE, and only there"),
        (not internal and not method.limits, "at least one rate limit is needed"),
        (method.access is Access.PUBLIC and by_user, "a public method has no user to limit by"),
        (method.deadline is None and not method.server_streaming, "a deadline is needed"),
        (method.retry == policy_pb2.RETRY_UNSPECIFIED, "whether it may be retried must be said"),
    )
    return next((problem for wrong, problem in checks if wrong), None)


def service_methods(full_name: str) -> dict[str, Method]:
    """All methods of a protobuf service by name; its module must have been imported."""
    service: ServiceDescriptor = descriptor_pool.Default().FindServiceByName(full_name)
    return {descriptor.name: method_of(descriptor) for descriptor in service.methods}


@cache
def method_at(path: str) -> Method:
    """The method at `/package.Service/Method`; its module must have been imported. Raises KeyError."""
    _, service, name = path.split("/")
    return service_methods(service)[name]


def all_methods(services: Iterable[str]) -> list[Method]:
    """All methods of several protobuf services."""
    return [method for service in services for method in service_methods(service).values()]


def _limit(limit: policy_pb2.RateLimit, descriptor: MethodDescriptor) -> RateLimit:
    seconds = _seconds(limit.per.seconds, limit.per.nanos)
    if limit.calls < 1 or seconds < 1 or limit.scope == policy_pb2.LIMIT_SCOPE_UNSPECIFIED:
        raise PolicyError(f"{descriptor.full_name}: a rate limit needs a scope, calls >= 1 and per >= 1 s")
    return RateLimit(Scope(limit.scope), limit.calls, seconds)


def _seconds(seconds: int, nanos: int) -> float:
    return seconds + nanos / 1e9
