"""Whatever changes something can be sent again: it takes a `request_id`, and a test counts its effects."""

from __future__ import annotations

import importlib

import pytest
from google.protobuf.descriptor import FieldDescriptor

from sampan.options.v1 import policy_pb2
from services.mesh.policy import Method, service_methods
from services.stack.topology import SERVICES
from tests.support.mutations import MUTATIONS

for _service in SERVICES.values():
    for _name in _service.public:
        importlib.import_module(f"{_name.rpartition('.')[0]}.{_service.name}_service_pb2")

PUBLIC = [
    method
    for service in SERVICES.values()
    for name in service.public
    for method in service_methods(name).values()
]
# A stream from the client has ids of its own in its frames.
CHANGING = [
    method for method in PUBLIC if method.retry != policy_pb2.RETRY_SAFE and not method.client_streaming
]


@pytest.mark.parametrize("method", CHANGING, ids=lambda method: method.path)
def test_what_changes_something_takes_a_request_id(method: Method) -> None:
    field = method.request.DESCRIPTOR.fields_by_name.get("request_id")
    assert field is not None
    assert field.type == FieldDescriptor.TYPE_STRING
    assert method.retry == policy_pb2.RETRY_WITH_REQUEST_ID


@pytest.mark.parametrize("method", PUBLIC, ids=lambda method: method.path)
def test_what_takes_a_request_id_changes_something(method: Method) -> None:
    takes = "request_id" in method.request.DESCRIPTOR.fields_by_name
    assert takes == (method in CHANGING)


def test_the_effects_of_each_are_counted_by_a_test() -> None:
    counted = {one.split()[0] for one in MUTATIONS}
    assert counted == {".".join(method.path.split(".")[3:]) for method in CHANGING}
