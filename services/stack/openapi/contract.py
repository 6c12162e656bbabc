"""The descriptor set as it is read here: descriptors, options and comments, without the generated stubs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

# Field numbers in FileDescriptorProto and below, of which the paths of source_code_info are made.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _NESTED, _NESTED_ENUMS, _METHODS, _VALUES = 2, 3, 4, 2, 2


class Contract:
    """What a serialized FileDescriptorSet says. Extensions are known by their names in the set itself."""

    def __init__(self, descriptors: bytes) -> None:
        self.files = descriptor_pb2.FileDescriptorSet.FromString(descriptors).file
        self.pool = descriptor_pool.DescriptorPool()
        self.comments: dict[str, str] = {}
        for file in self.files:
            self.pool.Add(file)
            self.comments.update(_comments(file))

    def services(self) -> list[ServiceDescriptor]:
        """All services of the set, in its order."""
        names = [f"{file.package}.{service.name}" for file in self.files for service in file.service]
        return [self.pool.FindServiceByName(name) for name in names]

    def option(self, described: Descriptor | FieldDescriptor | MethodDescriptor, extension: str) -> Any:
        """An extension of the options of something, empty when it has none."""
        options = described.GetOptions()
        known = self.message_class(options.DESCRIPTOR.full_name).FromString(options.SerializeToString())
        return known.Extensions[self.pool.FindExtensionByName(extension)]

    def message_class(self, name: str) -> Any:
        """A class for messages of a type of the set."""
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def comment(self, name: str) -> str:
        """What stands before something, by its full name."""
        return self.comments.get(name, "")

    def reasons(self) -> Iterator[tuple[str, str]]:
        """Every reason with its comment: the values of the enums `<Context>ErrorReason`, without prefix."""
        for file in self.files:
            for enum in file.enum_type:
                if file.package.startswith("sampan.") and enum.name.endswith("ErrorReason"):
                    prefix = enum.value[0].name.removesuffix("UNSPECIFIED")
                    for value in enum.value[1:]:
                        name = f"{file.package}.{enum.name}.{value.name}"
                        yield value.name.removeprefix(prefix), self.comment(name)


def _comments(file: descriptor_pb2.FileDescriptorProto) -> dict[str, str]:
    names = dict(_names(file))
    return {
        names[tuple(place.path)]: " ".join(
            line.strip() for line in place.leading_comments.split("\n")
        ).strip()
        for place in file.source_code_info.location
        if tuple(place.path) in names and place.leading_comments
    }


def _names(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    for index, message in enumerate(file.message_type):
        yield from _message_names(message, file.package, (_MESSAGES, index))
    for index, enum in enumerate(file.enum_type):
        yield from _enum_names(enum, file.package, (_ENUMS, index))
    for index, service in enumerate(file.service):
        place, name = (_SERVICES, index), f"{file.package}.{service.name}"
        yield place, name
        for number, method in enumerate(service.method):
            yield (*place, _METHODS, number), f"{name}.{method.name}"


def _message_names(
    message: descriptor_pb2.DescriptorProto, parent: str, place: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], str]]:
    name = f"{parent}.{message.name}"
    yield place, name
    for index, field in enumerate(message.field):
        yield (*place, _FIELDS, index), f"{name}.{field.name}"
    for index, nested in enumerate(message.nested_type):
        yield from _message_names(nested, name, (*place, _NESTED, index))
    for index, enum in enumerate(message.enum_type):
        yield from _enum_names(enum, name, (*place, _NESTED_ENUMS, index))


def _enum_names(
    enum: descriptor_pb2.EnumDescriptorProto, parent: str, place: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], str]]:
    name = f"{parent}.{enum.name}"
    yield place, name
    for index, value in enumerate(enum.value):
        yield (*place, _VALUES, index), f"{name}.{value.name}"
