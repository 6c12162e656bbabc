"""What the quick checks let through is what protovalidate finds no fault with, for each kind of request."""

from __future__ import annotations

import importlib
import random
import string
import uuid
from typing import Any

import protovalidate
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sampan.identity.v1 import identity_service_pb2 as identity
from sampan.messaging.v1 import message_pb2
from sampan.messaging.v1 import messaging_service_pb2 as messaging
from sampan.payment.v1 import payment_service_pb2 as payment
from sampan.probe.v1 import probe_service_pb2 as probe
from services.mesh.validation import Rules
from tests.support.stack import ROOT

SAMPLES, MORE_SAMPLES = 50, 500
LENGTHS = (
    0,
    1,
    2,
    15,
    16,
    17,
    31,
    32,
    33,
    35,
    36,
    64,
    65,
    100,
    101,
    254,
    255,
    500,
    501,
    512,
    513,
    4096,
    4097,
)
INTEGERS = (0, 1, -1, 2, 20, 50, 99, 100, 101, 200, 500, 1000, 1001, 2**31 - 1, -(2**31))
UNSIGNED = (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
ODD = ("", "\n", "a\n", "a b", "café", "ก", "\U0001f600", "+6681234567", "a@b.co", "THB", "thb", "a" * 70_000)


def requests() -> list[Descriptor]:
    """Each type that some method takes."""
    found: dict[str, Descriptor] = {}
    for path in sorted((ROOT / "gen" / "sampan").rglob("*_service_pb2.py")):
        name = ".".join(path.relative_to(ROOT / "gen").with_suffix("").parts)
        for service in importlib.import_module(name).DESCRIPTOR.services_by_name.values():
            found.update((one.input_type.full_name, one.input_type) for one in service.methods)
    return list(found.values())


def text(chance: random.Random) -> str:
    """Anything between a good value and nonsense."""
    one = chance.randrange(5)
    if one == 0:
        return str(uuid.UUID(int=chance.getrandbits(128)))
    if one == 1:
        return chance.choice(ODD)
    if one == 2:
        spoiled = list(str(uuid.UUID(int=chance.getrandbits(128))))
        spoiled[chance.randrange(36)] = chance.choice("gG-\n 0")
        return "".join(spoiled).upper()
    letters = string.ascii_lowercase if one == 3 else string.ascii_letters + string.digits + "_-.= "
    return "".join(chance.choices(letters, k=chance.choice(LENGTHS)))


def value(field: FieldDescriptor, chance: random.Random, depth: int) -> Any:
    """Something for a field."""
    if field.message_type is not None:
        return made(field.message_type, chance, depth + 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return text(chance).encode()
    if field.type == FieldDescriptor.TYPE_STRING:
        return text(chance)
    number = chance.choice(INTEGERS)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_BOOL, FieldDescriptor.CPPTYPE_ENUM):
        return abs(number) % 2
    return abs(number) if field.cpp_type in UNSIGNED else number


def made(descriptor: Descriptor, chance: random.Random, depth: int = 0) -> Message:
    """A message with some of its fields set to something."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if depth > 3 or chance.random() < 0.4:
            continue
        if field.is_repeated:
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                continue
            items = [value(field, chance, depth) for _ in range(chance.choice((0, 1, 2, 30)))]
            getattr(message, field.name).extend(items)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(value(field, chance, depth))
        else:
            setattr(message, field.name, value(field, chance, depth))
    return message


@pytest.mark.parametrize("descriptor", requests(), ids=lambda one: one.full_name)
def test_nothing_passes_that_breaks_a_rule(descriptor: Descriptor, pytestconfig: pytest.Config) -> None:
    chance = random.Random(descriptor.full_name)
    ours, library = Rules(), protovalidate.Validator()
    for _ in range(MORE_SAMPLES if pytestconfig.getoption("--long") else SAMPLES):
        message = made(descriptor, chance)
        found = [str(one.proto) for one in ours.violations(message)]
        assert found == [str(one.proto) for one in library.collect_violations(message)], message


class NoLibrary:
    """Stands where the library is, and must not be asked."""

    def collect_violations(self, message: Message) -> list[Any]:
        raise AssertionError(f"the library was asked about {message}")


ID = str(uuid.uuid4())
CONTENT = message_pb2.Content(text="Is the batik ready?")


@pytest.mark.parametrize(
    "message",
    [
        probe.EchoRequest(text="hello"),
        identity.GetMeRequest(),
        messaging.SendMessageRequest(dialog_id=ID, content=CONTENT, client_message_id="a1", mentions=[ID]),
        messaging.ListMessagesRequest(dialog_id=ID, limit=50),
        payment.SendMoneyRequest(
            wallet_id=ID, recipient_id=ID, amount=100, currency="THB", description="rice", request_id=ID
        ),
    ],
    ids=lambda one: one.DESCRIPTOR.name,
)
def test_the_commonest_requests_do_not_need_the_library(
    message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protovalidate, "Validator", NoLibrary)
    assert not Rules().violations(message)
