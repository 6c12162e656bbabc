"""The contract says of every method who may call it, how often and how long, without contradiction."""

from __future__ import annotations

import importlib
import re

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import Default

from services.mesh import errors
from services.mesh.errors import STATUS, SampanError, status_of
from services.mesh.policy import Access, Method, service_methods
from services.stack.codegen import DESCRIPTORS, GEN
from services.stack.pki import OPERATOR
from services.stack.topology import SERVICES

FILES = descriptor_pb2.FileDescriptorSet.FromString((GEN / DESCRIPTORS).read_bytes())
OURS = [file for file in FILES.file if file.package.startswith("sampan.")]

for _file in OURS:
    importlib.import_module(_file.name.removesuffix(".proto").replace("/", ".") + "_pb2")

ALL_SERVICES = [f"{file.package}.{service.name}" for file in OURS for service in file.service]
METHODS = [method for name in ALL_SERVICES for method in service_methods(name).values()]
DELIBERATE = "/sampan.probe.v1.ProbeService/EchoWithoutPolicy"


def without_policy(methods: list[Method]) -> set[str]:
    """Paths of methods that nobody may call."""
    return {method.path for method in methods if method.access is Access.MISSING}


def test_every_method_has_a_policy() -> None:
    # The probe leaves it out of one method on purpose: that it is found shows that this test can fail.
    assert without_policy(METHODS) == {DELIBERATE}


def test_every_service_of_the_contract_is_in_the_topology_or_the_probe() -> None:
    placed = {name for service in SERVICES.values() for name in (*service.public, *service.internal)}
    assert set(ALL_SERVICES) - placed == {"sampan.probe.v1.ProbeService"}
    assert placed <= set(ALL_SERVICES)


def test_internal_services_have_only_internal_methods_and_public_ones_none() -> None:
    for service in SERVICES.values():
        for name in service.internal:
            assert {method.access for method in service_methods(name).values()} == {Access.SERVICE}
        for name in service.public:
            assert Access.SERVICE not in {method.access for method in service_methods(name).values()}


# Contexts that are to come: until they are in the topology nobody has a certificate of theirs.
PLANNED = ("commerce",)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_callers_are_services_of_the_topology_or_the_operator(method: Method) -> None:
    assert method.callers <= {*SERVICES, OPERATOR, *PLANNED}


def error_types(base: type[SampanError] = SampanError) -> list[type[SampanError]]:
    """All error types of the code."""
    found = [base]
    for one in base.__subclasses__():
        found += error_types(one)
    return found


def reasons() -> dict[str, str]:
    """Reason -> the comment that the contract has for it."""
    found = {}
    for file in OURS:
        for index, enum in enumerate(file.enum_type):
            if not enum.name.endswith("ErrorReason"):
                continue
            prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
            comments = {
                tuple(location.path): location.leading_comments for location in file.source_code_info.location
            }
            for number, value in enumerate(enum.value):
                found[value.name.removeprefix(prefix)] = comments.get((5, index, 2, number), "")
    return found


def test_every_error_type_has_its_reason_in_the_contract() -> None:
    for name in SERVICES:
        importlib.import_module(f"services.{name}.app")
    abstract = {errors.Unauthenticated, errors.AlreadyExists}
    used = {one.reason for one in error_types() if one not in abstract}
    known = set(reasons()) - {"UNSPECIFIED"}
    assert used == known


def test_every_reason_has_a_sample_and_the_status_that_is_sent() -> None:
    comments = reasons()
    for one in error_types():
        comment = comments.get(one.reason, "")
        if not comment:
            continue
        assert f'"reason":"{one.reason}"' in comment, one.reason
        assert str(status_of(one).http) in comment.partition(".")[0], one.reason


def test_a_status_stands_for_every_base_error() -> None:
    assert all(status_of(one) in STATUS.values() for one in error_types())


def test_descriptors_have_the_types_of_error_details() -> None:
    assert any(file.name == "google/rpc/error_details.proto" for file in FILES.file)
    assert Default().FindMessageTypeByName("sampan.options.v1.Policy")
