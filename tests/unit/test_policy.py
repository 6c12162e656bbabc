"""A policy that contradicts itself keeps the service from starting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sampan.probe.v1 import probe_service_pb2
from services.mesh.policy import Access, Method, RateLimit, Scope, contradiction, service_methods

assert probe_service_pb2
PROBE = service_methods("sampan.probe.v1.ProbeService")
ECHO = PROBE["Echo"]


def test_the_probe_s_policies_are_sound() -> None:
    assert {name: contradiction(method) for name, method in PROBE.items() if contradiction(method)} == {}


@pytest.mark.parametrize(
    "wrong",
    [
        replace(ECHO, callers=frozenset({"web"})),
        replace(PROBE["EchoService"], callers=frozenset()),
        replace(ECHO, limits=()),
        replace(ECHO, access=Access.PUBLIC, limits=(RateLimit(Scope.USER, 1, 1),)),
        replace(ECHO, deadline=None),
        replace(ECHO, retry=0),
    ],
    ids=[
        "callers on a user method",
        "service without callers",
        "no limit",
        "user limit",
        "no deadline",
        "no retry",
    ],
)
def test_contradictions_are_found(wrong: Method) -> None:
    assert contradiction(wrong)
