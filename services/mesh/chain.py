"""The interceptor chain: what happens around every call, as one named list; `handlers.py` puts it there.

It is one composed function, not one grpc.aio interceptor a step, since each of those costs a coroutine.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import protovalidate
from google.protobuf.message import DecodeError, Message
from structlog.typing import FilteringBoundLogger

from services.mesh import problem, trace
from services.mesh.auth import TokenVerifier
from services.mesh.call import Call, Metadata, arrived, current
from services.mesh.deadline import Deadlines
from services.mesh.errors import (
    CallerNotAllowed,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    MalformedRequest,
    PermissionDenied,
    PolicyMissing,
    RequestTooLarge,
    SampanError,
    Violation,
    status_of,
)
from services.mesh.metrics import CANCELLED, OK, Calls, MethodCalls
from services.mesh.policy import Access, Method, RateLimit, Scope
from services.mesh.ratelimit import Limiter
from services.mesh.tls import EDGE, NOT_SERVICES, caller_name
from services.mesh.validation import Rules

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

Context = grpc.aio.ServicerContext[Any, Any]
Step = Callable[[Call, Context], Awaitable[None] | None]

_SUBJECT = re.compile(r"[\x21-\x7e]{1,128}")
_REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Chain:
    """Runs `steps` before a handler, reads and validates requests, turns every error into a clean answer."""

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        limiter: Limiter,
        log: FilteringBoundLogger,
        max_request_bytes: int,
        slow_seconds: float = 0.5,
        sample: int = 100,
        tracer: Tracer | None = None,
        doubt: Callable[[], None] = lambda: None,
        wary: bool = False,
    ) -> None:
        self._verifier = verifier
        # Raises when it has not been known for long who is still signed in: no admin is served then, and
        # where one is wary nobody.
        self._doubt = doubt
        self._wary = wary
        self._limiter = limiter
        self._log = log
        self._max_request_bytes = max_request_bytes
        self._slow_seconds = slow_seconds
        self._share_logged = 1 / sample
        # Without one no span is made, whatever callers say.
        self._tracer = tracer
        self.calls = Calls()
        self._deadlines = Deadlines()
        self._rules = Rules()
        # The order matters: policy before tokens, so that a method without a policy says so to everybody;
        # tokens before limits, so that one person's calls are not another's.
        self.steps: tuple[tuple[str, Step], ...] = (
            ("trace", self._trace),
            ("caller", self._caller),
            ("policy", self._policy),
            ("token", self._token),
            ("role", self._role),
            ("limits", self._limits),
        )
        self._run = tuple(step for _, step in self.steps)

    # Steps before the request is read.

    def _trace(self, call: Call, _: Context) -> None:
        given = call.text("traceparent")
        found = trace.TRACEPARENT.fullmatch(given)
        if found:
            trace.traceparent.set(given)
            call.trace_id = found.group(1)
            if self._tracer is not None and trace.is_kept(given):
                self._begin_span(self._tracer, call, given)
            return
        request_id = call.text("x-request-id")
        if _REQUEST_ID.fullmatch(request_id):
            call.trace_id = request_id.replace("-", "")

    def _begin_span(self, tracer: Tracer, call: Call, given: str) -> None:
        method = call.method
        said = {"rpc.system": "grpc", "rpc.service": method.service, "rpc.method": method.name}
        call.span = trace.begin(tracer, given, call.counted.method, trace.SERVER, said)
        trace.enter(tracer, call.span)

    def _caller(self, call: Call, context: Context) -> None:
        # The whole of auth_context() costs ten times as much.
        call.caller = caller_name(context.peer_identities())
        if call.caller == EDGE:
            # The edge appends the address it saw; what stands before it was said by the client.
            call.address = call.text("x-forwarded-for").rpartition(",")[2].strip()
            call.path = call.text("x-envoy-original-path")
        else:
            call.address = context.peer().rpartition(":")[0]

    def _policy(self, call: Call, _: Context) -> None:
        method = call.method
        if method.access is Access.MISSING:
            raise PolicyMissing
        if method.access is Access.SERVICE:
            if call.caller not in method.callers:
                raise CallerNotAllowed
            subject = call.text("x-sampan-subject")
            if call.caller not in NOT_SERVICES and _SUBJECT.fullmatch(subject):
                call.subject = subject

    def _token(self, call: Call, _: Context) -> Awaitable[None] | None:
        access = call.method.access
        if access is Access.PUBLIC or access is Access.SERVICE:
            return None
        call.user = self._verifier.remembered(call.text("authorization"))
        return None if call.user is not None else self._verify(call)

    async def _verify(self, call: Call) -> None:
        call.user = await self._verifier.verify(call.text("authorization"))

    def _role(self, call: Call, _: Context) -> None:
        access = call.method.access
        if access is Access.ADMIN:
            if "admin" not in call.require_user().roles:
                raise PermissionDenied("this needs the role admin")
            self._doubt()
        elif self._wary and access is Access.USER:
            self._doubt()

    def _limits(self, call: Call, _: Context) -> Awaitable[None] | None:
        return self.count(call.method, call)

    def _take(self, method: Method, call: Call, limit: RateLimit) -> Awaitable[None] | None:
        key = call.require_user().id if limit.scope is Scope.USER else call.address
        return self._limiter.take(method.path, key, limit.calls, limit.seconds)

    async def _wait_for(
        self, waiting: Awaitable[None], method: Method, call: Call, others: Iterator[RateLimit]
    ) -> None:
        await waiting
        for limit in others:
            more = self._take(method, call, limit)
            if more is not None:
                await more

    def count(self, method: Method, call: Call) -> Awaitable[None] | None:
        """Counts a call of a method that came inside another one, such as a frame of a stream.

        Raises RateLimited, or the awaitable does; None when there is nothing to wait for.
        """
        limits = iter(method.limits)
        for limit in limits:
            waiting = self._take(method, call, limit)
            if waiting is not None:
                return self._wait_for(waiting, method, call, limits)
        return None

    # Reading.

    def read(self, method: Method, raw: bytes) -> Message:
        """Parses and validates one request. Raises RequestTooLarge, MalformedRequest or InvalidArgument."""
        if len(raw) > self._max_request_bytes:
            raise RequestTooLarge(f"the request is over {self._max_request_bytes} bytes")
        try:
            request = method.request.FromString(raw)
        except DecodeError as error:
            raise MalformedRequest from error
        violations = self._rules.violations(request)
        if violations:
            raise InvalidArgument(
                "some fields break their rules: see errors",
                violations=tuple(_violation(violation) for violation in violations),
            )
        return request

    # Around a call.

    # What seldom has to be waited for is no coroutine: one costs more than most steps.

    def begin(self, method: Method, counted: MethodCalls, context: Context) -> Call:
        """A call that has just come."""
        call = Call(method, dict(_metadata(context)), counted)
        call.started = time.perf_counter()
        counted.begun += 1
        call.runs_until(context.time_remaining())
        current.set(call)
        return call

    def admit(self, call: Call, context: Context) -> Awaitable[None] | None:
        """Runs the steps; None when there is nothing to wait for. Raises what a step refuses with."""
        steps = iter(self._run)
        for step in steps:
            waiting = step(call, context)
            if waiting is not None:
                return self._admit_after(waiting, call, context, steps)
        return None

    async def _admit_after(
        self, waiting: Awaitable[None], call: Call, context: Context, others: Iterator[Step]
    ) -> None:
        await waiting
        for step in others:
            more = step(call, context)
            if more is not None:
                await more

    def leave(self, call: Call, context: Context) -> Awaitable[None] | None:
        """Ends a call that went well; None when there is nothing to wait for."""
        if call.path and (call.http_code or call.headers):
            return self._tell_rest(call, context)
        self._went_well(call)
        return None

    async def _tell_rest(self, call: Call, context: Context) -> None:
        """Says what REST shall be told of a good answer."""
        headers = list(call.headers)
        if call.http_code:
            headers.append((problem.HTTP_CODE_HEADER, str(call.http_code)))
        if call.created_location:
            headers.append(("location", call.created_location))
        await context.send_initial_metadata(tuple(headers))
        self._went_well(call)

    def _went_well(self, call: Call) -> None:
        """Counts it, and logs the slow and a sample."""
        seconds = time.perf_counter() - call.started
        if call.span is not None or call.counted.streams:
            self._ended(call, OK, "ok", seconds)
        else:
            call.counted.ok.add(seconds)
        if seconds > self._slow_seconds or random.random() < self._share_logged:  # noqa: S311 - a sample
            self._access(call, "OK", seconds)

    async def fail(self, call: Call, context: Context, error: BaseException) -> NoReturn:
        """Ends the call with an error that its caller may see."""
        shown = self._shown(call, error)
        seconds = time.perf_counter() - call.started
        outcome = "failed" if status_of(type(shown)).http >= 500 else "refused"
        self._ended(call, shown.reason, outcome, seconds)
        self._access(call, shown.reason, seconds)
        trailing: list[tuple[str, str | bytes]] = [
            ("grpc-status-details-bin", problem.rpc_status(shown, call.trace_id).SerializeToString())
        ]
        if call.path:
            trailing += problem.rest_headers(shown, call.trace_id, call.path)
        await context.abort(status_of(type(shown)).code, shown.detail, tuple(trailing))
        raise AssertionError("abort raises")

    def gave_up(self, call: Call, error: BaseException) -> None:
        """Notes the end of a call to which nobody listens any more, or which broke in our own hands."""
        if not call.has_ended:
            reason = Internal.reason if isinstance(error, Exception) else CANCELLED
            outcome = "failed" if isinstance(error, Exception) else "refused"
            self._ended(call, reason, outcome, time.perf_counter() - call.started)

    def _ended(self, call: Call, reason: str, outcome: str, seconds: float) -> None:
        """Counts a call and ends its span."""
        call.has_ended = True
        counted, span = call.counted, call.span
        kept_in = "" if span is None else call.trace_id
        if reason != OK or counted.streams:
            counted.ended(reason, outcome, seconds, kept_in)
        else:
            counted.ok.add_kept(seconds, kept_in)
        if span is not None:
            trace.end(span, reason if outcome == "failed" else "", sampan__reason=reason)

    def _shown(self, call: Call, error: BaseException) -> SampanError:
        if isinstance(error, SampanError):
            return error
        if isinstance(error, TimeoutError):
            return DeadlineExceeded()
        self._log.error("call.crashed", method=call.method.path, trace_id=call.trace_id, exc_info=error)
        return Internal()

    def _access(self, call: Call, reason: str, seconds: float) -> None:
        self._log.info(
            "call",
            method=call.method.path,
            caller=call.caller,
            user=call.user.id if call.user else "",
            reason=reason,
            ms=round(seconds * 1000, 2),
            trace_id=call.trace_id,
        )

    def until(self, seconds: float | None) -> AbstractContextManager[None]:
        """Ends the block with TimeoutError after so long; never when None."""
        return self._deadlines.until(seconds)


def _metadata(context: Context) -> Metadata:
    told = arrived.get()
    if told is None:
        asked: Any = context.invocation_metadata()
        return asked or ()
    # It is this call's alone: tasks that the call starts inherit the variable.
    arrived.set(None)
    return told


def _violation(violation: protovalidate.Violation) -> Violation:
    told = violation.proto
    names = []
    for element in told.field.elements if told.field else ():
        index = element.subscript
        names.append(element.field_name + (f"[{index.value}]" if index is not None else ""))
    return Violation(".".join(names), told.rule_id, told.message or told.rule_id)
