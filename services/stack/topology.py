"""Who runs where: the one table that the stack, the edge and the compose file are made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Service:
    """One bounded context as it runs.

    `public` and `internal` are full names of protobuf services; only the public ones get routes at the edge.
    `websocket` is a path at the edge whose WebSockets go to a listener of the service's own.
    `database` says whether it owns one: `sampan_<name>`, with the roles `<name>_owner` and `<name>`, and a
    master key for what it encrypts there. `bank` says whether the sandbox bank calls it back: it gets the
    bank's secret, and may ask it.
    """

    name: str
    public: tuple[str, ...]
    internal: tuple[str, ...] = ()
    database: bool = True
    websocket: str = ""
    bank: bool = False


@dataclass(frozen=True, slots=True)
class Process:
    """Services that share a process and an event loop. Each keeps its own port and certificate."""

    name: str
    services: tuple[str, ...]
    replicas: int = 1

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of its replicas: that of the process when there is one."""
        if self.replicas == 1:
            return (self.name,)
        return tuple(f"{self.name}-{replica + 1}" for replica in range(self.replicas))


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
        Service("workspace", public=("sampan.workspace.v1.WorkspaceService",)),
        Service(
            "messaging",
            public=("sampan.messaging.v1.MessagingService",),
            internal=("sampan.messaging.v1.MessagingInternalService",),
            websocket="/websocket",
        ),
        Service(
            "presence",
            public=("sampan.presence.v1.PresenceService",),
            internal=("sampan.presence.v1.PresenceInternalService",),
        ),
        Service(
            "payment",
            public=("sampan.payment.v1.PaymentService",),
            internal=("sampan.payment.v1.PaymentInternalService",),
            bank=True,
        ),
        Service("analytics", public=("sampan.analytics.v1.AnalyticsService",)),
        Service("web", public=("sampan.web.v1.WebService",), database=False),
    )
}

PROCESSES: tuple[Process, ...] = (
    Process("people", ("identity", "notification", "profile", "workspace")),
    Process("chat", ("messaging", "presence")),
    Process("money", ("payment",)),
    Process("background", ("analytics", "web")),
)

# How many replicas of which process a person wants: a JSON object such as {"people": 2}.
REPLICAS = "SAMPAN_PROCESS_REPLICAS"
MOST_REPLICAS = 32


def processes(environment: Mapping[str, str]) -> tuple[Process, ...]:
    """The processes with as many replicas as the environment wants. Raises ValueError with what is wrong."""
    wanted = dict(_wanted(environment.get(REPLICAS, "") or "{}"))
    return tuple(replace(one, replicas=wanted.get(one.name, one.replicas)) for one in PROCESSES)


def _wanted(text: str) -> Iterator[tuple[str, int]]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - one kind of error for whoever wrote it
    known = {process.name for process in PROCESSES}
    for name, replicas in found.items():
        if name not in known:
            raise ValueError(f"there is no process {name}: choose from {', '.join(sorted(known))}")
        if type(replicas) is not int or not 1 <= replicas <= MOST_REPLICAS:
            raise ValueError(f"{name} may have from 1 to {MOST_REPLICAS} replicas")
        yield name, replicas


# Parts that are servers of their own; each can instead be an outside one.
SERVERS: tuple[str, ...] = ("postgres", "redis", "nats")
EDGE = "envoy"
