"""Methods as operations: parameters, bodies, answers, who may call and how often."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from services.stack.openapi import errors
from services.stack.openapi.contract import Contract
from services.stack.openapi.errors import Reasons
from services.stack.openapi.schemas import WELL_KNOWN, Schemas

HTTP_BODY = "google.api.HttpBody"
JSON = "application/json"
# JSON, a message on each line.
LINES = "application/x-ndjson"
BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
SCOPES = {"LIMIT_SCOPE_USER": "person", "LIMIT_SCOPE_ADDRESS": "client address"}

_VARIABLE = re.compile(r"\{([^{}=]+)(?:=[^{}]*)?\}")
# `REST: POST /v1/auth/register, 201.` Statuses and a media type may stand up to the end of the sentence.
_REST = re.compile(r"\s*REST: ((?:[^.]|\.(?!\s|$))*)\.?")
_GOOD = re.compile(r"\b(20\d|503)\b")
_MEDIA = re.compile(r"\b((?:text|application|image)/[a-z0-9.+-]+)")


@dataclass(frozen=True, slots=True)
class Binding:
    """One REST address of a method. `body` is empty, `*` for all that the path does not say, or a field."""

    verb: str
    template: str
    body: str

    @property
    def path(self) -> str:
        """The template as OpenAPI writes it."""
        return _VARIABLE.sub(r"{\1}", self.template)

    @property
    def variables(self) -> list[str]:
        """Names of the fields that the path holds."""
        return _VARIABLE.findall(self.template)


class Operations:
    """Makes the operations of methods."""

    def __init__(self, contract: Contract, schemas: Schemas, reasons: Reasons) -> None:
        self._contract = contract
        self._schemas = schemas
        self._reasons = reasons

    def of(self, method: MethodDescriptor) -> Iterator[tuple[Binding, dict[str, Any]]]:
        """An operation for each address of a method; the first is the true one, the others are aliases."""
        bindings = list(self._bindings(method))
        for number, binding in enumerate(bindings):
            made = self._operation(method, binding, number)
            if number:
                first = bindings[0]
                made["x-alias-of"] = f"{first.verb} {first.path}"
                made["description"] = f"Alias of `{first.verb} {first.path}`. {made['description']}"
            yield binding, made

    def _bindings(self, method: MethodDescriptor) -> Iterator[Binding]:
        rule = self._contract.option(method, "google.api.http")
        for each in (rule, *rule.additional_bindings):
            kind = each.WhichOneof("pattern")
            if kind == "custom":
                yield Binding(each.custom.kind, each.custom.path, each.body)
            elif kind:
                yield Binding(kind.upper(), getattr(each, kind), each.body)

    def _operation(self, method: MethodDescriptor, binding: Binding, number: int) -> dict[str, Any]:
        policy = self._contract.option(method, "sampan.options.v1.policy")
        access = policy.DESCRIPTOR.fields_by_name["access"].enum_type.values_by_number[policy.access].name
        comment = self._contract.comment(method.full_name)
        words = _REST.sub("", errors.ERRORS.sub("", comment)).strip()
        service = method.containing_service.name.removesuffix("Service")
        made: dict[str, Any] = {
            "operationId": f"{service}_{method.name}" + (f"_{number}" if number else ""),
            "tags": [service],
            "summary": words.partition(". ")[0].rstrip("."),
            "description": f"{words} {_limits(policy, access)}",
            "parameters": self._parameters(method, binding),
            "requestBody": self._body(method, binding),
            "responses": dict(sorted({**self._bad(method, binding, access), **self._good(method)}.items())),
            "security": [] if access == "ACCESS_PUBLIC" else BEARER,
            "x-grpc": f"{method.containing_service.full_name}/{method.name}",
        }
        if access == "ACCESS_ADMIN":
            made["x-role"] = "admin"
        return {key: value for key, value in made.items() if value or key == "security"}

    def _parameters(self, method: MethodDescriptor, binding: Binding) -> list[dict[str, Any]]:
        message = method.input_type
        found = [
            {"name": name, "in": "path", "required": True, **self._parameter(_field(message, name))}
            for name in binding.variables
        ]
        if binding.body == "*" or message.full_name == HTTP_BODY:
            return found
        taken = {*binding.variables, binding.body}
        needed = self._schemas.required(message)
        for name, field in _flat(message):
            if name not in taken and name.partition(".")[0] not in taken:
                required = {"required": True} if name in needed else {}
                found.append({"name": name, "in": "query", **required, **self._parameter(field)})
        return found

    def _parameter(self, field: FieldDescriptor) -> dict[str, Any]:
        schema = self._schemas.field(field)
        said = schema.pop("description", "")
        return {**({"description": said} if said else {}), "schema": schema}

    def _body(self, method: MethodDescriptor, binding: Binding) -> dict[str, Any]:
        if not binding.body:
            return {}
        message = method.input_type
        if binding.body == "*":
            if message.full_name == HTTP_BODY or method.client_streaming:
                return {"required": True, "content": {"*/*": {"schema": {}}}}
            schema = self._schemas.request(message, frozenset(binding.variables))
            required = bool(set(self._schemas.required(message)) - set(binding.variables))
        else:
            field = message.fields_by_name[binding.body]
            if field.message_type is not None and field.message_type.full_name == HTTP_BODY:
                return {"required": True, "content": {"*/*": {"schema": {}}}}
            schema, required = self._schemas.field(field), binding.body in self._schemas.required(message)
        return {**({"required": True} if required else {}), "content": {JSON: {"schema": schema}}}

    def _good(self, method: MethodDescriptor) -> dict[str, Any]:
        """What the comment says after `REST:`; else 201 for what creates, 204 for what deletes, 200."""
        told = _REST.search(self._contract.comment(method.full_name))
        sentence = told[1] if told else ""
        verb = next(self._bindings(method)).verb
        statuses = _GOOD.findall(sentence) or [_usual_status(method.name, verb)]
        media = _MEDIA.search(sentence)
        return {status: self._answer(method, status, media[1] if media else "") for status in statuses}

    def _answer(self, method: MethodDescriptor, status: str, media: str) -> dict[str, Any]:
        message = method.output_type
        said = self._contract.comment(message.full_name) if message.file.package.startswith("sampan") else ""
        made: dict[str, Any] = {"description": said or "Done."}
        if status == "204":
            return {"description": "Done; there is no body."}
        if status == "201":
            made["headers"] = {"Location": errors.header("Path of what was made.")}
        if message.full_name == HTTP_BODY:
            made["content"] = {media or "application/octet-stream": {"schema": {}}}
        elif method.server_streaming:
            # A message a line, or an event each when the caller accepts text/event-stream.
            made["content"] = {
                LINES: {"schema": self._schemas.answer(message)},
                "text/event-stream": {"schema": {}},
            }
        else:
            made["content"] = {JSON: {"schema": self._schemas.answer(message)}}
        return made

    def _bad(self, method: MethodDescriptor, binding: Binding, access: str) -> dict[str, Any]:
        names = [*errors.ALWAYS, *errors.WITH_QUERY, *self._reasons.named(method)]
        if access != "ACCESS_PUBLIC":
            names += errors.WITH_TOKEN
        if access == "ACCESS_ADMIN":
            names += errors.WITH_ROLE
        if binding.body:
            names += errors.WITH_BODY
        if method.input_type.fields:
            names += errors.WITH_FIELDS
        if "request_id" in method.input_type.fields_by_name:
            names += errors.WITH_REQUEST_ID
        if binding.variables:
            names += errors.WITH_PATH
        return self._reasons.responses(names)


def _usual_status(name: str, verb: str) -> str:
    if name.startswith(("Create", "Register")):
        return "201"
    return "204" if verb == "DELETE" else "200"


def _limits(policy: Any, access: str) -> str:
    said = [
        f"At most {limit.calls} calls in {limit.per.seconds} s for each "
        f"{SCOPES[limit.DESCRIPTOR.fields_by_name['scope'].enum_type.values_by_number[limit.scope].name]}."
        for limit in policy.rate_limits
    ]
    if access == "ACCESS_ADMIN":
        said.append("For the role `admin` only.")
    return " ".join(said)


def _field(message: Descriptor, name: str) -> FieldDescriptor:
    """A field by its path, such as `profile.id`."""
    head, _, rest = name.partition(".")
    field = message.fields_by_name[head]
    return _field(field.message_type, rest) if rest and field.message_type else field


def _flat(message: Descriptor, prefix: str = "", depth: int = 3) -> Iterator[tuple[str, FieldDescriptor]]:
    """Fields as query parameters: those of inner messages by their paths; repeated messages cannot be one."""
    for field in message.fields:
        inner = field.message_type
        if inner is None or (inner.full_name in WELL_KNOWN and not field.is_repeated):
            yield prefix + field.name, field
        elif not field.is_repeated and depth:
            yield from _flat(inner, f"{prefix}{field.name}.", depth - 1)
