"""Reads the contract: which methods the edge may route, by whom, for how long, and at which REST paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2

from sampan.options.v1 import policy_pb2

# Fails closed: an access level that is not here has no route.
REACHABLE = frozenset({policy_pb2.ACCESS_PUBLIC, policy_pb2.ACCESS_USER, policy_pb2.ACCESS_ADMIN})
HTTP_BODY = ".google.api.HttpBody"

TEMPLATE_TOKEN = re.compile(
    r"\{[^{}=]+(?:=(?P<inner>[^{}]+))?\}|(?P<rest>\*\*)|(?P<one>\*)|(?P<text>[^{}*]+)"
)

# Bytes that are not JSON.
_RAW = ".google.api.HttpBody"


@dataclass(frozen=True, slots=True)
class Binding:
    """One REST address of a method: HTTP verb, path template, and whether a JSON body goes with it."""

    verb: str
    template: str
    json_body: bool

    @property
    def exact(self) -> bool:
        """Whether the template has no variable part."""
        return "{" not in self.template and "*" not in self.template

    @property
    def regex(self) -> str:
        """The template as RE2 for the whole path."""
        return _to_regex(self.template)

    @property
    def precedence(self) -> tuple[bool, bool, bool, int, str, str]:
        """Sorts what is narrower first: no variables, no `**`, a custom verb, then few variables."""
        verbless = ":" not in self.template.rpartition("/")[2].rpartition("}")[2]
        variables = len(re.findall(r"\{|\*", self.template))
        return (not self.exact, "**" in self.template, verbless, variables, self.template, self.verb)


@dataclass(frozen=True, slots=True)
class Method:
    """A method that the edge routes. `deadline` is in seconds, None when it has none.

    `lines` says that REST gets its answer as JSON line by line.
    """

    service: str
    name: str
    public: bool
    deadline: float | None
    retry_safe: bool
    client_streaming: bool
    server_streaming: bool
    lines: bool
    bindings: tuple[Binding, ...]

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"

    @property
    def full_name(self) -> str:
        return f"{self.service}.{self.name}"

    @property
    def streaming(self) -> bool:
        return self.client_streaming or self.server_streaming

    @property
    def live(self) -> bool:
        """Whether its answer goes on until somebody ends it."""
        return self.server_streaming and self.deadline is None


def read_methods(descriptors: Path, services: tuple[str, ...]) -> tuple[Method, ...]:
    """The methods of these services that may be reached from outside, in the order of the contract."""
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file
    known = {f"{file.package}.{service.name}": service for file in files for service in file.service}
    missing = [name for name in services if name not in known]
    if missing:
        raise ValueError(f"{descriptors} lacks {', '.join(missing)}: generate the descriptors anew")
    raw = frozenset(_raw_fields(files))
    return tuple(
        _method(name, method, raw) for name in services for method in known[name].method if _reachable(method)
    )


def _raw_fields(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> Iterator[str]:
    """Fields that take a body as it comes, and requests that are one as a whole, by their full names."""
    yield HTTP_BODY
    for file in files:
        for message in file.message_type:
            for field in message.field:
                if field.type_name == HTTP_BODY:
                    yield f".{file.package}.{message.name}.{field.name}"


def _reachable(method: descriptor_pb2.MethodDescriptorProto) -> bool:
    options = method.options
    if not options.HasExtension(policy_pb2.policy):
        return False
    return options.Extensions[policy_pb2.policy].access in REACHABLE


def _method(service: str, method: descriptor_pb2.MethodDescriptorProto, raw: frozenset[str]) -> Method:
    policy = method.options.Extensions[policy_pb2.policy]
    streaming = method.client_streaming or method.server_streaming
    return Method(
        service=service,
        name=method.name,
        public=policy.access == policy_pb2.ACCESS_PUBLIC,
        deadline=None if streaming else policy.deadline.ToNanoseconds() / 1e9,
        retry_safe=policy.retry == policy_pb2.RETRY_SAFE,
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        lines=method.server_streaming and method.output_type != _RAW,
        bindings=tuple(_bindings(method, raw)),
    )


def _bindings(method: descriptor_pb2.MethodDescriptorProto, raw: frozenset[str]) -> Iterator[Binding]:
    if not method.options.HasExtension(annotations_pb2.http):
        return
    rule = method.options.Extensions[annotations_pb2.http]
    for each in (rule, *rule.additional_bindings):
        verb, template = _pattern(each)
        as_it_comes = method.input_type in raw or f"{method.input_type}.{each.body}" in raw
        yield Binding(verb, template, json_body=bool(each.body) and not as_it_comes)


def _pattern(rule: http_pb2.HttpRule) -> tuple[str, str]:
    kind = rule.WhichOneof("pattern")
    if kind is None:
        raise ValueError("google.api.http without a path")
    if kind == "custom":
        return rule.custom.kind, rule.custom.path
    path: str = getattr(rule, kind)
    return kind.upper(), path


def _to_regex(template: str) -> str:
    return "".join(_token_regex(token) for token in TEMPLATE_TOKEN.finditer(template))


def _token_regex(token: re.Match[str]) -> str:
    if token["text"]:
        return re.escape(token["text"])
    if token["rest"]:
        return ".*"
    return _to_regex(token["inner"]) if token["inner"] else "[^/]+"
