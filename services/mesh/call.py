"""One call as handlers see it: who calls, in whose name, until when, and what REST shall be told."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.mesh.errors import TokenMissing
from services.mesh.metrics import MethodCalls
from services.mesh.policy import Method

if TYPE_CHECKING:
    from opentelemetry.trace import Span

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class User:
    """A signed-in person, as a verified access token says. `expires` in seconds since the epoch."""

    id: str
    session_id: str
    token_id: str
    roles: frozenset[str]
    expires: float


class Call:
    """What the chain knows of one call. Handlers get it as their second argument."""

    __slots__ = (
        "_trace_id",
        "address",
        "caller",
        "counted",
        "created_location",
        "ends",
        "has_ended",
        "headers",
        "http_code",
        "limit",
        "metadata",
        "method",
        "path",
        "span",
        "started",
        "subject",
        "user",
    )

    def __init__(
        self, method: Method, metadata: dict[str, str | bytes], counted: MethodCalls | None = None
    ) -> None:
        self.method = method
        # Where its end is counted, once; a call outside of a chain counts for itself.
        self.counted = counted or MethodCalls(method.path, streams=False)
        self.has_ended = False
        # Where its trace is kept.
        self.span: Span | None = None
        self.metadata = metadata
        # Name in the client certificate of who calls: `edge` or a service.
        self.caller = ""
        # The person in whose name a service calls; believed of services only, and empty for anybody else.
        self.subject = ""
        # Address of the client: behind the edge that which it saw.
        self.address = ""
        # The path of a REST request, empty through the other doors.
        self.path = ""
        self.user: User | None = None
        self._trace_id = ""
        # Of time.perf_counter: when it came, and when it must have been answered.
        self.started = 0.0
        self.ends = math.inf
        # The contract's deadline in seconds, unless the caller's own is as short: gRPC keeps that one.
        self.limit: float | None = None
        self.http_code = 0
        self.created_location = ""
        # More headers of a good answer, for REST only.
        self.headers: list[tuple[str, str]] = []

    @property
    def trace_id(self) -> str:
        """Of its trace: the caller's, or one that is made when somebody wants to know it."""
        if not self._trace_id:
            # Not a secret, only unlike others.
            self._trace_id = f"{random.getrandbits(128):032x}"
        return self._trace_id

    @trace_id.setter
    def trace_id(self, given: str) -> None:
        self._trace_id = given

    def text(self, key: str) -> str:
        """A metadata value, or the empty string."""
        value = self.metadata.get(key, "")
        return value if isinstance(value, str) else ""

    def require_user(self) -> User:
        """The signed-in person. Raises TokenMissing when there is none."""
        if self.user is None:
            raise TokenMissing
        return self.user

    def created(self, location: str) -> None:
        """Says that something new stands at a path: REST answers 201 with `Location`."""
        self.http_code = 201
        self.created_location = location

    def answer_with(self, http_code: int) -> None:
        """Sets the HTTP status that REST shows for a good answer."""
        self.http_code = http_code

    def runs_until(self, remaining: float | None) -> None:
        """Sets when it must be answered, from what its caller left and what the contract gives."""
        if remaining is not None:
            self.ends = self.started + remaining
        deadline = self.method.deadline
        if deadline is not None and self.started + deadline < self.ends:
            self.ends = self.started + deadline
            self.limit = deadline


# Metadata of the call that this task is about to serve. gRPC tells it when it asks for a handler; to ask for
# it again takes a conversion that costs more than any step of the chain.
arrived: ContextVar[Metadata | None] = ContextVar("arrived", default=None)

# The call that this task works on. Tasks inherit it: what outlives its call is started in another context.
current: ContextVar[Call | None] = ContextVar("current", default=None)
