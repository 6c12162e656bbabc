"""Answers that say what went wrong: reasons and their statuses, from the comments of the contract."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from services.stack.openapi.contract import Contract

PROBLEM = "application/problem+json"
# What every operation may answer, besides what its own comment names.
ALWAYS = ("MALFORMED_REQUEST", "RATE_LIMITED", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED")
WITH_FIELDS = ("INVALID_ARGUMENT",)
WITH_QUERY = ("UNKNOWN_QUERY_PARAMETER",)
WITH_TOKEN = ("TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED")
WITH_ROLE = ("PERMISSION_DENIED",)
WITH_BODY = ("REQUEST_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")
WITH_REQUEST_ID = ("REQUEST_ID_REUSED", "OUTCOME_UNKNOWN")
# A path parameter may hold what makes the path another one, or none.
WITH_PATH = ("ROUTE_NOT_FOUND",)

_STATUS = re.compile(r"^(\d{3}) ")
_SAMPLE = re.compile(r"Sample: (\{.*\})$")
ERRORS = re.compile(r"\bErrors:? (.*)$")
_SAME_AS = re.compile(r"^as (\w+)")
_TOKEN = re.compile(r"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b|\((\d{3})\)")

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "type": "object",
    "description": "RFC 9457. `reason` is stable and meant for programs; `detail` is meant for people.",
    "required": ["type", "title", "status", "detail", "instance", "reason", "errors", "trace_id"],
    "properties": {
        "type": {"type": "string", "description": "urn:sampan:reason:<reason>."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What went wrong, for people."},
        "instance": {"type": "string", "description": "The path of the request, without its query."},
        "reason": {"type": "string", "description": "What went wrong, for programs."},
        "errors": {
            "type": "array",
            "description": "Fields that break their rules; at most 16.",
            "items": {
                "type": "object",
                "required": ["field", "rule", "message"],
                "properties": {
                    "field": {"type": "string", "description": "Path of the field."},
                    "rule": {"type": "string", "description": "Stable id of the rule."},
                    "message": {"type": "string", "description": "What the rule wants."},
                },
            },
        },
        "trace_id": {"type": "string", "description": "Finds the call in our logs."},
    },
}
WAIT_HEADERS = {
    "Retry-After": "Seconds until there is room for one call.",
    "RateLimit-Limit": "Calls that fit into an empty bucket.",
    "RateLimit-Remaining": "Calls that there is room for now.",
    "RateLimit-Reset": "Seconds until there is room for one call.",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason as its enum's comment tells it: the HTTP status, the words, a sample of the answer."""

    status: int
    text: str
    sample: dict[str, Any]


class Reasons:
    """All reasons of the contract by name, and those of each method."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self.known = {name: _reason(name, comment) for name, comment in contract.reasons()}
        self.shared: dict[str, Any] = {}
        self.examples: dict[str, Any] = {}

    def named(self, method: MethodDescriptor) -> dict[str, int | None]:
        """Reasons that a method's comment names, each with the status that stands after it there."""
        found = ERRORS.search(self._contract.comment(method.full_name))
        if not found:
            return {}
        same = _SAME_AS.match(found[1])
        if same:
            return self.named(method.containing_service.methods_by_name[same[1]])
        named: dict[str, int | None] = {}
        waiting: list[str] = []
        for token in _TOKEN.finditer(found[1]):
            if token[1]:
                waiting.append(token[1])
                continue
            named.update(dict.fromkeys(waiting, int(token[2])))
            waiting = []
        return {**named, **dict.fromkeys(waiting)}

    def responses(self, names: list[str]) -> dict[str, Any]:
        """Responses by status for these reasons. Raises KeyError for one that no enum has."""
        by_status: dict[int, list[str]] = {}
        for name in dict.fromkeys(names):
            by_status.setdefault(self.known[name].status, []).append(name)
        return {str(status): self._refer(status, by_status[status]) for status in sorted(by_status)}

    def _refer(self, status: int, names: list[str]) -> dict[str, Any]:
        """What has one reason only is the same everywhere, and said once."""
        for name in names:
            self.examples.setdefault(name, {"value": self._example(name)})
        if len(names) > 1:
            return self._response(status, names)
        self.shared.setdefault(names[0], self._response(status, names))
        return {"$ref": f"#/components/responses/{names[0]}"}

    def _response(self, status: int, names: list[str]) -> dict[str, Any]:
        lines = [f"- `{name}`: {self.known[name].text}" for name in names]
        content = {
            "schema": {
                "allOf": [{"$ref": "#/components/schemas/Problem"}],
                "properties": {"reason": {"enum": names}, "status": {"const": status}},
            },
            "examples": {name: {"$ref": f"#/components/examples/{name}"} for name in names},
        }
        made = {"description": f"{_phrase(status)}.\n\n" + "\n".join(lines), "content": {PROBLEM: content}}
        headers = WAIT_HEADERS if status == 429 else {"WWW-Authenticate": "Bearer."} if status == 401 else {}
        if headers:
            made["headers"] = {name: header(words) for name, words in headers.items()}
        return made

    def _example(self, name: str) -> dict[str, Any]:
        reason = self.known[name]
        return {
            "type": f"urn:sampan:reason:{name}",
            "title": _phrase(reason.status),
            "status": reason.status,
            "detail": reason.sample.get("detail", "some fields break their rules: see errors"),
            "instance": "/v1/...",
            "reason": name,
            "errors": reason.sample.get("errors", []),
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        }


def header(words: str) -> dict[str, Any]:
    """A header of a response."""
    number = words.startswith(("Seconds", "Calls"))
    return {"description": words, "schema": {"type": "integer" if number else "string"}}


def _phrase(status: int) -> str:
    return "Content Too Large" if status == 413 else HTTPStatus(status).phrase


def _reason(name: str, comment: str) -> Reason:
    status = _STATUS.match(comment)
    if not status:
        raise ValueError(f"the comment of reason {name} does not begin with its HTTP status")
    sample = _SAMPLE.search(comment)
    text = comment[: sample.start()] if sample else comment
    return Reason(int(status[1]), text.partition(". ")[2].strip(), json.loads(sample[1]) if sample else {})
