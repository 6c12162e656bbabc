"""Hypothesis strategies for any message of the contract: fields valid or not, and bytes that are none."""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
}
# What attackers and careless clients send as text.
_TEXT = st.one_of(
    st.text(max_size=50),
    st.sampled_from(["", "\0", "a\0b", "' OR 1=1 --", "../../etc/passwd", "𝔘𝔫𝔦", "ก็", "\u202e", "x" * 5000]),
    st.from_regex(r"[a-z0-9]{3,32}", fullmatch=True),
    st.from_regex(r"\+66[0-9]{8,9}", fullmatch=True),
    st.uuids(version=4).map(str),
    st.emails(),
)


def _scalar(field: FieldDescriptor, depth: int) -> st.SearchStrategy[object]:
    kind = field.cpp_type
    if kind in _INTEGERS:
        return _INTEGERS[kind]
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if kind in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        return st.floats(width=32)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        return fields(field.message_type, depth + 1)
    return st.binary(max_size=50) if field.type == FieldDescriptor.TYPE_BYTES else _TEXT


def fields(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy[object]:
    """A dict of some of a message's fields."""
    if depth > 3:
        return st.just({})
    options = {
        field.name: st.lists(_scalar(field, depth), max_size=4)
        if field.is_repeated
        else _scalar(field, depth)
        for field in descriptor.fields
    }
    return st.fixed_dictionaries({}, optional=options)


def built(message: type[Message], values: dict[str, object]) -> bytes:
    """The bytes of a message with these fields."""
    made = message()
    _fill(made, values)
    return made.SerializeToString()


def _fill(made: Message, values: dict[str, object]) -> None:
    for name, value in values.items():
        field = made.DESCRIPTOR.fields_by_name[name]
        if isinstance(value, list):
            if field.message_type and field.message_type.GetOptions().map_entry:
                for one in value:
                    getattr(made, name)[one.get("key", "")] = one.get("value", "")
            elif field.message_type:
                for one in value:
                    _fill(getattr(made, name).add(), one)
            else:
                getattr(made, name).extend(value)
        elif isinstance(value, dict):
            getattr(made, name).SetInParent()
            _fill(getattr(made, name), value)
        else:
            setattr(made, name, value)


def requests(message: type[Message]) -> st.SearchStrategy[bytes]:
    """Bytes for a method: a message with random fields, one cut or changed somewhere, or noise."""
    good = fields(message.DESCRIPTOR).map(lambda values: built(message, values))  # type: ignore[arg-type]
    cut = st.builds(lambda raw, at: raw[: at % (len(raw) + 1)], good, st.integers(0, 10_000))
    flipped = st.builds(_flip, good, st.integers(0, 10_000), st.integers(1, 255))
    return st.one_of(good, good, cut, flipped, st.binary(max_size=300))


def _flip(raw: bytes, at: int, mask: int) -> bytes:
    if not raw:
        return bytes((mask,))
    at %= len(raw)
    return raw[:at] + bytes((raw[at] ^ mask,)) + raw[at + 1 :]
