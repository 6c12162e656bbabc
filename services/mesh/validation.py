"""The contract's rules about requests: what surely breaks none is let through, the library judges the rest.

protovalidate costs a call more than all other steps of the chain together. So the common rules are compiled
into checks that can say one thing only: no rule is broken. Whatever a check does not know, it leaves to the
library; it alone finds violations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import protovalidate
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message

from buf.validate import validate_pb2 as rules

# True when surely no rule is broken.
Check = Callable[[Message], object]
Fits = Callable[[Any], object]

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_UUID_LENGTH = 36
# Ids that are remembered: the same ones come again and again.
_REMEMBERED = 16_384
# Where patterns of RE2 and of Python may mean different things.
_OTHER_DIALECT = re.compile(r"\(\?|\\[^.\-+/\\dw]|\[\[|[*+?}]\+|\{,")
# Classes that RE2 knows, as Python says them.
_CLASSES = ((r"\P{Cc}", "[^\x00-\x1f\x7f-\x9f]"), (r"\S", "[^\t\n\f\r ]"))
_INTEGERS = frozenset(("int32", "int64", "uint32", "uint64"))


class Rules:
    """Judges requests of any type; learns a type when it first sees one."""

    def __init__(self) -> None:
        self._validator = protovalidate.Validator()
        self._checks: dict[type[Message], Check] = {}

    def violations(self, request: Message) -> Collection[protovalidate.Violation]:
        """What is wrong with a request; empty when nothing is."""
        kind = type(request)
        check = self._checks.get(kind)
        if check is None:
            check = self._checks[kind] = _of_message(cast("Descriptor", request.DESCRIPTOR), ())
        return () if check(request) else self._validator.collect_violations(request)


def _never(_: Any) -> bool:
    """For rules that only the library knows."""
    return False


def _always(_: Any) -> bool:
    """For what has no rules."""
    return True


class _Rule(NamedTuple):
    """What is asked of a field: whether its value fits, if it is there, and whether it must be."""

    fits: Fits = _always
    needed: bool = False


def _of_message(descriptor: Descriptor, above: tuple[Descriptor, ...]) -> Check:
    """The check of a message and of all in it. `above` are the messages that it is in."""
    # One may be in itself, as deep as it likes.
    if descriptor.GetOptions().HasExtension(rules.message) or descriptor in above:
        return _never
    inside = (*above, descriptor)
    known = {field: _of_field(field, inside) for field in descriptor.fields}
    needed = sum(rule.needed for rule in known.values())
    for oneof in filter(_must_be_there, descriptor.oneofs):
        if any(known[field].needed for field in oneof.fields):
            return _never
        known.update((field, known[field]._replace(needed=True)) for field in oneof.fields)
        needed += 1
    if all(rule == _Rule() for rule in known.values()):
        return _always
    return _of_fields(known, needed)


def _of_fields(known: Mapping[FieldDescriptor, _Rule], needed: int) -> Check:
    """Looks at what is there and counts it: most fields are left out, and to ask for each would cost more."""

    def check(message: Message) -> bool:
        missing = needed
        for field, value in message.ListFields():
            fits, counts = known[field]
            if not fits(value):
                return False
            missing -= counts
        return not missing

    return check


def _must_be_there(oneof: OneofDescriptor) -> bool:
    """Whether one of its fields has to be."""
    options = oneof.GetOptions()
    return bool(options.HasExtension(rules.oneof) and options.Extensions[rules.oneof].required)


def _of_field(field: FieldDescriptor, inside: tuple[Descriptor, ...]) -> _Rule:
    options = field.GetOptions()
    found = options.Extensions[rules.field] if options.HasExtension(rules.field) else rules.FieldRules()
    if found.ignore == rules.IGNORE_ALWAYS:
        return _Rule()
    if field.is_repeated:
        return _of_many(field, found, inside)
    if field.message_type is not None:
        return _of_part(field.message_type, found, inside)
    return _of_value(field, found)


def _of_many(field: FieldDescriptor, found: rules.FieldRules, inside: tuple[Descriptor, ...]) -> _Rule:
    """Lists with limits of length and rules for single items; of maps only empty ones are known."""
    own = {one.name: value for one, value in found.repeated.ListFields()}
    kind = {one.name for one, _ in found.ListFields()}
    item = _of_item(field, own.pop("items", None), inside)
    known = {"min_items", "max_items"} | ({"unique"} if field.message_type is None else set())
    unknown = kind - {"repeated", "ignore"} or own.keys() - known
    least, most = own.get("min_items", 0), own.get("max_items", 1 << 31)
    if unknown or item is _never or (_is_map(field) and item is not _always):
        return _Rule(_never, needed=bool(least or found.required or found.map.min_pairs))
    if item is _always and not own:
        return _Rule()
    unique = own.get("unique", False)

    def fits(items: Sequence[Any]) -> bool:
        count = len(items)
        return least <= count <= most and (not unique or len(set(items)) == count) and all(map(item, items))

    return _Rule(fits, needed=bool(least) and found.ignore != rules.IGNORE_IF_ZERO_VALUE)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _of_item(field: FieldDescriptor, own: rules.FieldRules | None, inside: tuple[Descriptor, ...]) -> Fits:
    if field.message_type is None:
        return _fits(own) if own is not None else _always
    # An entry of a map is a message, too.
    return _of_message(field.message_type, inside) if own is None else _never


def _of_part(kind: Descriptor, found: rules.FieldRules, inside: tuple[Descriptor, ...]) -> _Rule:
    """A message in a message: whether it has to be there, and its own rules."""
    others = {one.name for one, _ in found.ListFields()} - {"required", "ignore"}
    return _Rule(_never if others else _of_message(kind, inside), needed=found.required)


def _of_value(field: FieldDescriptor, found: rules.FieldRules) -> _Rule:
    """A text, a number or the like."""
    fits, skips = _fits(found), found.ignore == rules.IGNORE_IF_ZERO_VALUE
    if found.required and skips:
        return _Rule(_never, needed=True)
    fits_left_out = field.has_presence or skips or fits(field.default_value)
    return _Rule(fits, needed=found.required or not fits_left_out)


def _fits(found: rules.FieldRules) -> Fits:
    """Whether a value surely keeps its rules."""
    kinds = {one.name: value for one, value in found.ListFields() if one.name not in ("required", "ignore")}
    if not kinds:
        return _always
    if len(kinds) > 1:
        return _never
    ((kind, own),) = kinds.items()
    if kind == "string":
        return _fits_text(own)
    if kind in _INTEGERS:
        return _fits_integer(own)
    return _never


def _fits_text(own: rules.StringRules) -> Fits:
    said = {one.name: value for one, value in own.ListFields()}
    if said == {"uuid": True}:
        return _is_uuid
    if said.keys() == {"in"}:
        return frozenset(said["in"]).__contains__
    if said.keys() - {"min_len", "max_len", "pattern"}:
        return _never
    least, most = said.get("min_len", 0), said.get("max_len", 1 << 31)
    if "pattern" not in said:
        return lambda value: least <= len(value) <= most
    found = _pattern(said["pattern"])
    if found is _never or said.keys() == {"pattern"}:
        return found
    return lambda value: least <= len(value) <= most and found(value)


def _is_uuid(value: str) -> bool:
    # Nothing else is remembered, which could be as long as a request.
    return len(value) == _UUID_LENGTH and _matches_uuid(value)


@lru_cache(_REMEMBERED)
def _matches_uuid(value: str) -> bool:
    return _UUID.fullmatch(value) is not None


def _pattern(said: str) -> Fits:
    """Whether a pattern surely matches; never those that are not known to mean the same to Python."""
    pattern = said
    if "[" not in said:
        for theirs, ours in _CLASSES:
            pattern = pattern.replace(theirs, ours)
    if _OTHER_DIALECT.search(pattern) or "$" in pattern[:-1]:
        return _never
    if pattern.endswith("$"):
        # Python's `$` also stands before a line's end.
        pattern = pattern[:-1] + r"\Z"
    return re.compile(pattern, re.ASCII).search


def _fits_integer(own: Any) -> Fits:
    said = {one.name: value for one, value in own.ListFields()}
    if said.keys() - {"gt", "gte", "lt", "lte"}:
        return _never
    least = max(said.get("gte", -(1 << 63)), said.get("gt", -(1 << 63) - 1) + 1)
    most = min(said.get("lte", 1 << 64), said.get("lt", (1 << 64) + 1) - 1)
    if least > most:
        # Such a pair means all that is outside of it.
        return _never
    return lambda value: least <= value <= most
