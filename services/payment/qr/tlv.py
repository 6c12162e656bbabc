"""Tag, length, value: how an EMVCo merchant-presented QR is written, and its checksum."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable

_CRC = "63"
_CRC_HEAD = f"{_CRC}04"
_CRC_DIGITS = 4
# Two digits of length.
_LONGEST = 99

Field = tuple[str, str]


class QrInvalid(ValueError):
    """A payload that is no EMVCo QR: its text says what is wrong, and nothing of what it holds."""


def write(fields: Iterable[Field]) -> str:
    """Fields one after another. Raises QrInvalid for a value that is empty, too long or not ASCII."""
    return "".join(_one(tag, value) for tag, value in fields)


def _one(tag: str, value: str) -> str:
    if not 0 < len(value) <= _LONGEST or not value.isascii() or not value.isprintable():
        raise QrInvalid(f"field {tag} does not take such a value")
    return f"{tag}{len(value):02d}{value}"


def read(text: str) -> dict[str, str]:
    """Fields by tag. Raises QrInvalid for what is cut short, or has a tag twice."""
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        head, start = text[position : position + 4], position + 4
        if len(head) < 4 or not (head.isascii() and head.isdigit()):
            raise QrInvalid("a field without tag and length")
        end = start + int(head[2:])
        if end > len(text) or end == start or head[:2] in found:
            raise QrInvalid(f"field {head[:2]} is empty, cut short, or there twice")
        found[head[:2]] = text[start:end]
        position = end
    return found


def sealed(text: str) -> str:
    """A payload with its checksum at the end."""
    return f"{text}{_CRC_HEAD}{_checksum(text + _CRC_HEAD)}"


def opened(payload: str) -> str:
    """A payload without its checksum. Raises QrInvalid when that is missing or wrong."""
    text, crc = payload[:-_CRC_DIGITS], payload[-_CRC_DIGITS:]
    if not payload.isascii() or not text.endswith(_CRC_HEAD) or crc.upper() != _checksum(text):
        raise QrInvalid("the checksum is wrong")
    return text.removesuffix(_CRC_HEAD)


def _checksum(text: str) -> str:
    # CRC-16/CCITT-FALSE: polynomial 0x1021, first value 0xFFFF, nothing reflected.
    return f"{crc_hqx(text.encode('ascii'), 0xFFFF):04X}"
