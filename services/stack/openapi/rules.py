"""protovalidate's rules of a field as JSON Schema keywords."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from services.stack.openapi.contract import Contract

Schema = dict[str, Any]

EXTENSION = "buf.validate.field"
# Rules of text that JSON Schema knows by a format.
FORMATS = {
    "email": "email",
    "uuid": "uuid",
    "uri": "uri",
    "uri_ref": "uri-reference",
    "hostname": "hostname",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
}
CONTROL = r"\u0000-\u001F\u007F-\u009F"
LIMITS = {"gte": "minimum", "lte": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
LENGTHS = {"min_len": "minLength", "max_len": "maxLength", "pattern": "pattern"}
COUNTS = {"min_items": "minItems", "max_items": "maxItems", "min_pairs": "minProperties"}


def field_rules(contract: Contract, field: FieldDescriptor) -> tuple[Schema, Schema]:
    """Keywords for the field, and for the items of a repeated one."""
    rules = contract.option(field, EXTENSION)
    kind = rules.WhichOneof("type")
    if kind == "repeated":
        made = {**_present(rules.repeated, COUNTS)}
        if rules.repeated.unique:
            made["uniqueItems"] = True
        return made, _of(rules.repeated.items)
    return _of(rules), {}


def _of(rules: Any) -> Schema:
    kind = rules.WhichOneof("type")
    if kind == "string":
        return _text(rules.string)
    if kind in ("int32", "uint32", "sint32", "float", "double"):
        number = getattr(rules, kind)
        return {**_present(number, LIMITS), **_sets(number)}
    if kind in ("int64", "uint64", "sint64"):
        return _wide(getattr(rules, kind))
    if kind == "map":
        return _present(rules.map, COUNTS)
    return {}


def _text(rules: Any) -> Schema:
    made = {**_present(rules, LENGTHS), **_sets(rules)}
    if "pattern" in made:
        made["pattern"] = portable(made["pattern"])
    if rules.HasField("len"):
        made |= {"minLength": rules.len, "maxLength": rules.len}
    known = rules.WhichOneof("well_known")
    if known in FORMATS and getattr(rules, known):
        made["format"] = FORMATS[known]
    return made


def portable(pattern: str) -> str:
    """RE2 as what JSON Schema's readers share: few of them know control characters by \\p{Cc}.

    Of letters, \\p{L}, only those of ASCII can be said: the service itself checks all.
    """
    pattern = pattern.replace(r"\p{L}", "A-Za-z")
    within = re.sub(r"(\[[^\]]*)\\p\{Cc\}", lambda found: found[1] + CONTROL, pattern)
    return within.replace(r"\P{Cc}", f"[^{CONTROL}]").replace(r"\p{Cc}", f"[{CONTROL}]")


def _wide(rules: Any) -> Schema:
    """JSON has 64 bits as text, to which limits do not apply: they are told by `x-` keywords."""
    return {f"x-{name}": str(value) for name, value in _present(rules, LIMITS).items()}


def _sets(rules: Any) -> Schema:
    made: Schema = {}
    allowed = list(getattr(rules, "in"))
    if allowed:
        made["enum"] = allowed
    if rules.HasField("const"):
        made["const"] = rules.const
    if rules.not_in:
        made["not"] = {"enum": list(rules.not_in)}
    return made


def _present(rules: Any, names: dict[str, str]) -> Schema:
    known = {field.name for field in rules.DESCRIPTOR.fields}
    return {
        keyword: getattr(rules, name)
        for name, keyword in names.items()
        if name in known and rules.HasField(name)
    }
