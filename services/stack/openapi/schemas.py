"""Messages as JSON Schema, as protobuf's JSON mapping and the edge's transcoder write and read them."""

from __future__ import annotations

from typing import Any

import protovalidate
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from services.stack.openapi.contract import Contract
from services.stack.openapi.rules import Schema, field_rules

SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
}
NARROW: Schema = {"type": "integer", "format": "int32"}
WIDE: Schema = {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,20}$"}
WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": "^-?[0-9]+([.][0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Any": {"type": "object", "additionalProperties": True},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.StringValue": {"type": "string"},
    "google.protobuf.BoolValue": {"type": "boolean"},
    "google.protobuf.Int32Value": NARROW,
    "google.protobuf.Int64Value": WIDE,
}
REFERENCE = "#/components/schemas/"


class Schemas:
    """Collects the schemas that operations refer to, under `<context>.<version>.<Message>`."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.components: dict[str, Schema] = {}
        self._validator = protovalidate.Validator()

    def answer(self, message: Descriptor) -> Schema:
        """A message as it comes out: whatever is not optional and no message is always there."""
        return self._refer(message, asked=False)

    def request(self, message: Descriptor, without: frozenset[str] = frozenset()) -> Schema:
        """A message as it goes in, without the fields that the path says."""
        if not without:
            return self._refer(message, asked=True)
        name = component_name(message)
        schema = self._object(message, asked=True, without=without)
        if self.components.setdefault(name, schema) == schema:
            return {"$ref": REFERENCE + name}
        return schema

    def field(self, field: FieldDescriptor, *, asked: bool = True) -> Schema:
        """One field with its rules and its comment."""
        comment = self.contract.comment(field.full_name)
        said = {"description": comment} if comment else {}
        rules, item_rules = field_rules(self.contract, field)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = self._value(field.message_type.fields_by_name["value"], asked=asked)
            return {"type": "object", "additionalProperties": value, **rules, **said}
        value = self._value(field, asked=asked)
        if field.is_repeated:
            return {"type": "array", "items": {**value, **item_rules}, **rules, **said}
        return {**value, **rules, **_secrecy(field, asked=asked), **said}

    def required(self, message: Descriptor) -> list[str]:
        """Fields that a request cannot do without: an empty message breaks their rules."""
        empty = self.contract.message_class(message.full_name)()
        fields = {
            broken.proto.field.elements[0].field_name
            for broken in self._validator.collect_violations(empty)
            if broken.proto.field and broken.proto.field.elements
        }
        return [field.name for field in message.fields if field.name in fields]

    def _refer(self, message: Descriptor, *, asked: bool) -> Schema:
        if message.full_name in WELL_KNOWN:
            return dict(WELL_KNOWN[message.full_name])
        name = component_name(message)
        if name not in self.components:
            # Stands here first, for messages that hold themselves.
            self.components[name] = {}
            self.components[name] = self._object(message, asked=asked)
        return {"$ref": REFERENCE + name}

    def _object(self, message: Descriptor, *, asked: bool, without: frozenset[str] = frozenset()) -> Schema:
        fields = [field for field in message.fields if field.name not in without]
        required = self.required(message) if asked else [one.name for one in fields if _always(one)]
        made: Schema = {
            "title": message.name,
            "type": "object",
            "properties": {one.name: self.field(one, asked=asked) for one in fields},
            "required": [name for name in required if name not in without],
            "description": " ".join(
                filter(None, (self.contract.comment(message.full_name), *self._cel(message)))
            ),
        }
        return {key: value for key, value in made.items() if value or key == "properties"}

    def _cel(self, message: Descriptor) -> list[str]:
        """Rules over several fields, which are words here."""
        rules = self.contract.option(message, "buf.validate.message")
        return [f"Rule: {rule.message}." for rule in rules.cel]

    def _value(self, field: FieldDescriptor, *, asked: bool) -> Schema:
        if field.message_type is not None:
            return self._refer(field.message_type, asked=asked)
        if field.enum_type is not None:
            return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
        known = SCALARS.get(field.type)
        if known is not None:
            return dict(known)
        return dict(WIDE if field.cpp_type in _WIDE_TYPES else NARROW)


_WIDE_TYPES = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


def component_name(message: Descriptor) -> str:
    """Stable, whatever other contexts define: the full name without the organisation."""
    return message.full_name.removeprefix("sampan.")


def _always(field: FieldDescriptor) -> bool:
    return field.is_repeated or not field.has_presence


def _secrecy(field: FieldDescriptor, *, asked: bool) -> dict[str, Any]:
    secret = asked and field.name.endswith("password") and field.GetOptions().debug_redact
    return {"format": "password"} if secret else {}
