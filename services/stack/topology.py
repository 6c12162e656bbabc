"""Who runs where: the one table that the stack, the edge and the compose file are made from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Service:
    """One bounded context as it runs.

    `public` and `internal` are full names of protobuf services; only the public ones get routes at the edge.
    `database` says whether it owns one: `sampan_<name>`, with the roles `<name>_owner` and `<name>`, and a
    master key for what it encrypts there.
    """

    name: str
    public: tuple[str, ...]
    internal: tuple[str, ...] = ()
    database: bool = True


@dataclass(frozen=True, slots=True)
class Process:
    """Services that share a process and an event loop. Each keeps its own port and certificate."""

    name: str
    services: tuple[str, ...]
    replicas: int = 1


SERVICES: dict[str, Service] = {
    service.name: service
    for service in (
        Service(
            "identity",
            public=("sampan.identity.v1.IdentityService",),
            internal=("sampan.identity.v1.IdentityInternalService",),
        ),
        Service("notification", public=(), internal=("sampan.notification.v1.NotificationInternalService",)),
        Service("profile", public=("sampan.profile.v1.ProfileService",)),
        Service("web", public=("sampan.web.v1.WebService",), database=False),
    )
}

PROCESSES: tuple[Process, ...] = (
    Process("people", ("identity", "notification", "profile")),
    Process("background", ("web",)),
)

# Parts that are servers of their own; each can instead be an outside one.
SERVERS: tuple[str, ...] = ("postgres", "redis", "nats")
EDGE = "envoy"
