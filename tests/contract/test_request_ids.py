"""Whatever changes something can be sent again: it takes a `request_id`, and a test counts its effects."""

from __future__ import annotations

import importlib
import re

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor

from sampan.options.v1 import policy_pb2
from services.mesh.policy import Method, all_methods
from services.stack.codegen import DESCRIPTORS, GEN
from services.stack.topology import SERVICES
from tests.support.mutations import ELSEWHERE, MUTATIONS

_files = descriptor_pb2.FileDescriptorSet.FromString((GEN / DESCRIPTORS).read_bytes())
for _file in _files.file:
    if _file.package.startswith("sampan."):
        importlib.import_module(_file.name.removesuffix(".proto").replace("/", ".") + "_pb2")

# Of people and of services alike. A stream has ids of its own in its frames.
METHODS = [
    method
    for method in all_methods(name for one in SERVICES.values() for name in (*one.public, *one.internal))
    if not method.client_streaming and not method.server_streaming
]
# The verbs of methods that only read.
READS = ("Get", "List", "Filter")
# What is kept nowhere and said again and again: twice is the same as once.
FLEETING = ("SendTyping", "RenewLeases", "EndLeases")
# What counts once by an id that somebody else made: a bank its payment's.
BY_FOREIGN_IDS = ("ReceiveCallback",)
CHANGING = [
    method
    for method in METHODS
    if re.findall("[A-Z][a-z]+", method.name)[0] not in READS
    and method.name not in (*FLEETING, *BY_FOREIGN_IDS)
]


@pytest.mark.parametrize("method", CHANGING, ids=lambda method: method.path)
def test_what_changes_something_takes_a_request_id(method: Method) -> None:
    field = method.request.DESCRIPTOR.fields_by_name.get("request_id")
    assert field is not None
    assert field.type == FieldDescriptor.TYPE_STRING
    assert method.retry == policy_pb2.RETRY_WITH_REQUEST_ID


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_what_takes_a_request_id_changes_something(method: Method) -> None:
    takes = "request_id" in method.request.DESCRIPTOR.fields_by_name
    assert takes == (method in CHANGING)
    assert (method.retry == policy_pb2.RETRY_SAFE) == (method not in CHANGING)


def test_the_effects_of_each_are_counted_by_a_test() -> None:
    counted = {one.split()[0] for one in (*MUTATIONS, *ELSEWHERE)}
    assert counted == {".".join(method.path.split(".")[3:]) for method in CHANGING}
