"""The OpenAPI 3.1 document of the public surface."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from services.stack.openapi.contract import Contract
from services.stack.openapi.errors import PROBLEM_SCHEMA, Reasons
from services.stack.openapi.operations import Operations
from services.stack.openapi.schemas import Schemas

FILE = "openapi.json"
VERSION = "0.1.0"
REACHABLE = ("ACCESS_PUBLIC", "ACCESS_USER", "ACCESS_ADMIN")
DESCRIPTION = """\
One backend for apps in which people talk, pay and shop. The same methods answer over gRPC and gRPC-web \
(`x-grpc` names them), with the same login, limits, rules and reasons.

- Answers are snake_case; requests may be camelCase, too. Unknown fields of a body are ignored, \
unknown query parameters refused.
- Amounts and sequence numbers are 64 bits and thus text in JSON; numbers are accepted. \
Counts and seconds are numbers.
- Times are RFC 3339 in UTC. Ids are UUIDv7.
- Errors are RFC 9457 `application/problem+json`; programs go by `reason`.
- A body is at most 1 MiB.
- Mutating requests take a `request_id` of the caller's where they show one: the same again has one effect.
"""


def document(descriptors: bytes) -> dict[str, Any]:
    """The document of all methods that have a REST address and may be called from outside."""
    contract = Contract(descriptors)
    schemas = Schemas(contract)
    schemas.components["Problem"] = PROBLEM_SCHEMA
    reasons = Reasons(contract)
    operations = Operations(contract, schemas, reasons)
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, str] = {}
    for service in contract.services():
        for method in service.methods:
            if not _is_public(contract, method):
                continue
            for binding, operation in operations.of(method):
                paths.setdefault(binding.path, {})[binding.verb.lower()] = operation
                tags[operation["tags"][0]] = contract.comment(service.full_name)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sampan", "version": VERSION, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": words} for name, words in tags.items()],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": dict(sorted(reasons.shared.items())),
            "examples": dict(sorted(reasons.examples.items())),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _is_public(contract: Contract, method: MethodDescriptor) -> bool:
    """Fails closed, as the edge does: a method without a policy is not there."""
    if not method.containing_service.full_name.startswith("sampan."):
        return False
    policy = contract.option(method, "sampan.options.v1.policy")
    access = policy.DESCRIPTOR.fields_by_name["access"].enum_type.values_by_number[policy.access].name
    return access in REACHABLE and bool(contract.option(method, "google.api.http").WhichOneof("pattern"))


def write(descriptors: Path, target: Path) -> None:
    """Writes the document; the same descriptors give the same bytes."""
    made = json.dumps(document(descriptors.read_bytes()), indent=1, ensure_ascii=False)
    target.write_text(made + "\n", encoding="utf-8")
