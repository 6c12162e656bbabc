"""Values and rules of delivery: orders, letters, templates, when to try again. No I/O, no proto."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from string import Formatter

from services.notification.texts import FALLBACK, TEXTS


class Channel(StrEnum):
    """How a message goes."""

    SMS = "sms"
    EMAIL = "email"


class Status(StrEnum):
    """How far a delivery is. A dead one failed for good, or once too often."""

    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asks to be sent. Personal parts are left out of its repr."""

    channel: Channel
    template: str
    language: str
    to: str = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as it goes out. All of it is personal."""

    to: str = field(repr=False)
    subject: str = field(repr=False)
    body: str = field(repr=False)
    code: str = field(repr=False, default="")


# Longest device name that is shown; the rest is cut.
DEVICE_LENGTH = 60
# The form of each parameter, and the same in words.
PARAMETERS: dict[str, tuple[re.Pattern[str], str]] = {
    "code": (re.compile(r"[0-9A-Za-z]{4,16}"), "4 to 16 letters or digits"),
    "minutes": (re.compile(r"(?:[1-9]|[1-9]\d|[1-9]\d\d|1[0-3]\d\d|14[0-3]\d|1440)", re.ASCII), "1 to 1440"),
    "device": (re.compile(r".*\w.*", re.DOTALL), "a name with letters or digits"),
}
# Why an address does not fit its channel: a stable rule, and words.
ADDRESS_RULES: dict[Channel, tuple[str, str]] = {
    Channel.SMS: ("sms.e164", "is not a phone number in E.164, such as +66812345678"),
    Channel.EMAIL: ("email.mailbox", "is not one e-mail address"),
}
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
# Whoever orders has checked the address; here it must only not become something else in a header.
_MAILBOX = re.compile(r"[^\s<>,;:\"\\()\[\]@\x00-\x1f\x7f]+@[^\s<>,;:\"\\()\[\]@\x00-\x1f\x7f]+")
# Tagalog and its standard form, Filipino.
_SAME_LANGUAGE = {"fil": "tl"}


def is_address(channel: Channel, to: str) -> bool:
    """Whether messages of the channel can go there."""
    return (_E164 if channel is Channel.SMS else _MAILBOX).fullmatch(to) is not None


def normal_address(to: str) -> str:
    """The form in which addresses are compared."""
    return to.strip().lower()


def needed(template: str) -> tuple[str, ...]:
    """Names of the parameters that a template fills in."""
    text = TEXTS[template][FALLBACK].text
    return tuple(name for _, name, _, _ in Formatter().parse(text) if name)


def unfit_parameters(order: Order) -> dict[str, str]:
    """Parameters that are missing or not of their form, with what they must be."""
    return {
        name: PARAMETERS[name][1]
        for name in needed(order.template)
        if not PARAMETERS[name][0].fullmatch(order.parameters.get(name, ""))
    }


def language_of(tag: str) -> str:
    """The language of our texts that is nearest to a BCP 47 tag."""
    primary = tag.replace("_", "-").partition("-")[0].lower()
    primary = _SAME_LANGUAGE.get(primary, primary)
    return primary if primary in TEXTS["code_login"] else FALLBACK


def compose(order: Order) -> Letter:
    """The letter of an order whose parameters fit."""
    text = TEXTS[order.template][language_of(order.language)]
    values = {name: order.parameters[name] for name in needed(order.template)}
    if "device" in values:
        values["device"] = harmless(values["device"])
    return Letter(
        to=order.to,
        subject=text.subject if order.channel is Channel.EMAIL else "",
        body=text.text.format_map(values),
        code=values.get("code", ""),
    )


def expires_after(order: Order) -> int | None:
    """Seconds after which a letter is worth nothing; None when it stays true."""
    return int(order.parameters["minutes"]) * 60 if "minutes" in needed(order.template) else None


def harmless(name: str) -> str:
    """A device's name as we show it: whoever signs in chose it, so no link of theirs is passed on."""
    kept = "".join(
        char if unicodedata.category(char)[0] in "LMN" or char in " ()+-_." else " " for char in name
    )
    # A dot stays in a version, not in a host name.
    kept = re.sub(r"(?<!\d)\.|\.(?!\d)", " ", kept)
    return " ".join(kept.split())[:DEVICE_LENGTH].rstrip()


def retry_delay(attempt: int, *, first: float, ceiling: float, chance: float) -> float:
    """Seconds to wait after failed try number `attempt`, from 1; `chance` in [0, 1) decides half of it."""
    # The exponent is bounded, or the power would overflow long after it has passed the ceiling.
    whole = min(ceiling, first * 2.0 ** min(attempt - 1, 64))
    return whole * (0.5 + chance / 2)
