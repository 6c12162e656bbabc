"""What the edge says itself, as data: errors in the same words as those of services."""

from __future__ import annotations

import base64

import pytest
from google.rpc import error_details_pb2, status_pb2

from envoy.local_replies import GRPC_DOORS, NO_TRACE, causes
from envoy.lua import FOREIGN, lua_source
from sampan.common.v1 import error_reason_pb2
from services.mesh import errors
from services.mesh.problem import problem
from tests.unit.test_edge_config import SETTINGS, Config, manager


def mappers_of(reason: str) -> tuple[Config, Config]:
    """The mappers for the gRPC doors and for REST of the first cause with this reason."""
    position = next(n for n, cause in enumerate(causes(SETTINGS)) if cause.error.reason == reason)
    mappers = manager()["local_reply_config"]["mappers"]
    health = len(mappers) - 2 * len(causes(SETTINGS))
    grpc, rest = mappers[health + 2 * position : health + 2 * position + 2]
    return grpc, rest


EDGE_REASONS = [
    "TOKEN_MISSING",
    "TOKEN_EXPIRED",
    "TOKEN_INVALID",
    "ROUTE_NOT_FOUND",
    "UNKNOWN_QUERY_PARAMETER",
    "MALFORMED_REQUEST",
    "REQUEST_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "RATE_LIMITED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
]


@pytest.mark.parametrize("reason", EDGE_REASONS)
def test_edge_says_an_error_the_same_through_every_door(reason: str) -> None:
    error = next(cause.error for cause in causes(SETTINGS) if cause.error.reason == reason)
    status = errors.status_of(type(error))
    grpc, rest = mappers_of(reason)

    assert GRPC_DOORS in grpc["filter"]["and_filter"]["filters"]
    assert grpc["status_code"] == 200
    headers = {each["header"]["key"]: each["header"]["value"] for each in grpc["headers_to_add"]}
    assert headers["grpc-status"] == str(status.number)
    said = status_pb2.Status.FromString(base64.b64decode(headers["grpc-status-details-bin"]))
    info = error_details_pb2.ErrorInfo()
    assert said.details[0].Unpack(info)
    assert (info.reason, info.domain, info.metadata["trace_id"]) == (reason, "sampan", NO_TRACE)
    assert said.message == headers["grpc-message"].replace("%%", "%")

    words = rest["body_format_override"]["json_format"]
    assert words.keys() == problem(error, "", "").keys()
    assert words["reason"] == reason
    assert words["detail"].replace("%%", "%") == error.detail
    assert words["status"] == rest["status_code"]


@pytest.mark.parametrize("reason", EDGE_REASONS)
def test_edge_uses_only_reasons_of_the_contract(reason: str) -> None:
    assert f"ERROR_REASON_{reason}" in dict(error_reason_pb2.ErrorReason.items())
    assert reason in {cause.error.reason for cause in causes(SETTINGS)}


def test_edge_has_no_other_reasons_and_the_last_cause_catches_all() -> None:
    assert {cause.error.reason for cause in causes(SETTINGS)} == set(EDGE_REASONS)
    assert causes(SETTINGS)[-1].when == "true"


def test_rest_status_is_that_of_the_error_but_for_headers_that_are_too_large() -> None:
    differing = {
        (cause.error.reason, cause.status)
        for cause in causes(SETTINGS)
        if cause.status != errors.status_of(type(cause.error)).http
    }
    assert differing == {("MALFORMED_REQUEST", 431)}


def test_flood_answer_says_when_to_come_back() -> None:
    for mapper in mappers_of("RATE_LIMITED"):
        headers = {each["header"]["key"]: each["header"]["value"] for each in mapper["headers_to_add"]}
        assert headers["retry-after"] == "1"


def test_health_is_plain_json_when_nobody_answers_it() -> None:
    mapper = manager()["local_reply_config"]["mappers"][0]
    assert mapper["status_code"] == 503
    assert mapper["body_format_override"]["json_format"] == {"status": "unhealthy", "web": "down"}
    assert mapper["body_format_override"]["content_type"] == "application/json"


def test_lua_knows_every_reason_of_the_edge_and_every_bare_status() -> None:
    source = lua_source(SETTINGS)
    for reason in EDGE_REASONS:
        assert f'["{reason}"] = "' in source
    for code, (http, error) in FOREIGN.items():
        assert f'["{code}"] = {{ ["code"] = "{errors.status_of(error).number}"' in source
        assert f'["{http}"] = {{ ["status"] = "{errors.status_of(error).http}"' in source
