"""openapi.json: valid, the whole public surface and nothing else, as the contract says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from envoy.contract import read_methods
from services.stack.codegen import DESCRIPTORS, GEN
from services.stack.openapi import rules
from services.stack.openapi.contract import Contract
from services.stack.openapi.document import document
from services.stack.openapi.errors import Reasons
from services.stack.topology import SERVICES

PUBLIC = tuple(name for service in SERVICES.values() for name in service.public)


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GEN / "openapi.json").read_text())
    return found


def operations(api: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (verb.upper(), path): operation
        for path, item in api["paths"].items()
        for verb, operation in item.items()
    }


def test_the_document_is_valid(api: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(api).validate()


def test_every_rest_address_of_the_edge_is_in_it_and_no_other(api: dict[str, Any]) -> None:
    routed = {
        (binding.verb, re.sub(r"=[^}]*", "", binding.template))
        for method in read_methods(GEN / DESCRIPTORS, PUBLIC)
        for binding in method.bindings
    }
    assert set(operations(api)) == routed


def test_operations_are_named_once_and_say_who_may_call(api: dict[str, Any]) -> None:
    found = operations(api)
    assert len({one["operationId"] for one in found.values()}) == len(found)
    assert found["POST", "/v1/auth/login"]["security"] == []
    assert found["GET", "/v1/me"]["security"] == [{"bearer": []}]
    assert found["GET", "/v1/profiles"]["x-role"] == "admin"
    assert "ALIAS" not in found["GET", "/v1/me"]
    assert found["GET", "/users/profile"]["x-alias-of"] == "GET /v1/me"
    assert all(one["summary"] and "REST:" not in one["description"] for one in found.values())


def test_statuses_are_those_that_the_comments_say(api: dict[str, Any]) -> None:
    found = operations(api)
    made = found["POST", "/v1/auth/register"]["responses"]
    assert "Location" in made["201"]["headers"]
    assert "200" not in made
    assert "content" not in found["DELETE", "/v1/sessions/{id}"]["responses"]["204"]
    health = found["GET", "/healthz"]["responses"]
    assert set(health["503"]["content"]) == set(health["200"]["content"]) == {"application/json"}
    assert set(found["GET", "/docs"]["responses"]["200"]["content"]) == {"text/html"}


def test_rules_of_fields_are_keywords(api: dict[str, Any]) -> None:
    schemas = api["components"]["schemas"]
    register = schemas["identity.v1.RegisterRequest"]
    assert register["required"] == ["username", "password"]
    username = register["properties"]["username"]
    assert (username["minLength"], username["maxLength"], username["pattern"]) == (
        3,
        32,
        "^[a-z0-9]([a-z0-9_.]*[a-z0-9])?$",
    )
    assert register["properties"]["email"]["format"] == "email"
    assert schemas["identity.v1.SendOtpRequest"]["properties"]["type"]["enum"] == ["phone", "email"]
    assert schemas["identity.v1.Account"]["properties"]["created_at"]["format"] == "date-time"
    assert "id" in schemas["identity.v1.Account"]["required"]
    assert "bank_account_number" not in schemas["profile.v1.Profile"]["required"]
    assert "give exactly one" in schemas["identity.v1.LoginRequest"]["description"]


def test_what_the_path_says_is_not_in_the_body(api: dict[str, Any]) -> None:
    patch = operations(api)["PATCH", "/v1/profile/{id}"]
    assert [(one["name"], one["in"]) for one in patch["parameters"]] == [("id", "path")]
    assert patch["parameters"][0]["schema"]["format"] == "uuid"
    assert "id" not in api["components"]["schemas"]["profile.v1.UpdateProfileRequest"]["properties"]


def test_everything_has_words(api: dict[str, Any]) -> None:
    for name, schema in api["components"]["schemas"].items():
        assert schema.get("description"), name
        for field, inner in schema.get("properties", {}).items():
            assert inner.get("description") or "$ref" in inner, (name, field)


def test_errors_name_their_reasons(api: dict[str, Any]) -> None:
    register = operations(api)["POST", "/v1/auth/register"]["responses"]
    content = register["400"]["content"]["application/problem+json"]
    assert "PASSWORD_TOO_COMMON" in content["schema"]["properties"]["reason"]["enum"]
    conflict = register["409"]["content"]["application/problem+json"]["schema"]
    assert set(conflict["properties"]["reason"]["enum"]) == {"USERNAME_TAKEN", "REQUEST_ID_REUSED"}
    limited = api["components"]["responses"]["RATE_LIMITED"]
    assert {"Retry-After", "RateLimit-Limit"} <= set(limited["headers"])


def test_comments_of_methods_and_of_reasons_agree() -> None:
    contract = Contract((GEN / DESCRIPTORS).read_bytes())
    reasons = Reasons(contract)
    for service in contract.services():
        for method in service.methods:
            if service.full_name not in PUBLIC:
                continue
            for name, status in reasons.named(method).items():
                assert name in reasons.known, (method.full_name, name)
                assert status in (None, reasons.known[name].status), (method.full_name, name)


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        (r"^\P{Cc}*$", "a b ü", "a\nb"),
        (r"^\P{Cc}*[^\s\p{Cc}]\P{Cc}*$", " a ", "  "),
        ("^[a-z]+$", "a", "A"),
        (r"^[^\s\p{L}\p{Cc}/]+$", "👍", "a"),
    ],
)
def test_patterns_are_portable(pattern: str, fits: str, does_not: str) -> None:
    made = rules.portable(pattern)
    assert re.search(made, fits)
    assert not re.search(made, does_not)


def test_the_committed_document_is_what_the_contract_says() -> None:
    made = document((GEN / DESCRIPTORS).read_bytes())
    assert made == json.loads((GEN / "openapi.json").read_text())
