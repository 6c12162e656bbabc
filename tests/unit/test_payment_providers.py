"""Callbacks of the sandbox bank are believed when they are its own and fresh, and else not."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.errors import Unavailable
from services.payment.errors import CallbackMalformed, CallbackStale, SignatureInvalid
from services.payment.providers.journal import Journal
from services.payment.providers.provider import Event, Notice
from services.payment.providers.sandbox import Callback, SandboxProvider
from services.payment.providers.signing import SIGNATURE, TIMESTAMP, Signer

SECRET = bytes(range(32))
NOW = 1_780_000_000
NOTICE = Notice(
    event=Event.COMPLETED,
    payment_id="bank-1",
    method="promptpay",
    reference="ABC123",
    amount=12_345,
    currency="THB",
    at=datetime(2026, 11, 21, 9, 0, tzinfo=UTC),
)
BODY = Callback.of(NOTICE).model_dump_json().encode()


def provider(folder: Path = Path("/nowhere")) -> SandboxProvider:
    return SandboxProvider(SECRET, Journal(folder), lambda: float(NOW), tolerance=300)


def signed(body: bytes = BODY, at: int = NOW, secret: bytes = SECRET) -> dict[str, str]:
    return Signer(secret).headers(body, at)


def read(headers: dict[str, str], body: bytes = BODY) -> Notice:
    return provider().read(lambda name: headers.get(name, ""), body)


def test_a_signed_and_fresh_callback_says_what_it_says() -> None:
    assert read(signed()) == NOTICE


@pytest.mark.parametrize("at", [NOW - 300, NOW + 300])
def test_a_callback_may_be_as_old_as_the_tolerance(at: int) -> None:
    assert read(signed(at=at)) == NOTICE


@pytest.mark.parametrize("at", [NOW - 301, NOW + 301, 0])
def test_an_older_one_or_one_of_the_future_is_stale(at: int) -> None:
    with pytest.raises(CallbackStale):
        read(signed(at=at))


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_one_changed_byte_of_the_body_breaks_the_signature(at: int, mask: int) -> None:
    changed = bytearray(BODY)
    changed[at] ^= mask
    with pytest.raises(SignatureInvalid):
        read(signed(), bytes(changed))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {TIMESTAMP: str(NOW)},
        {SIGNATURE: signed()[SIGNATURE]},
        signed(secret=bytes(32)),
        signed() | {TIMESTAMP: str(NOW + 1)},
        signed() | {SIGNATURE: ""},
        signed() | {SIGNATURE: signed()[SIGNATURE].removeprefix("v1=")},
        signed() | {SIGNATURE: signed()[SIGNATURE].upper()},
        signed() | {SIGNATURE: "ก" * 67},
        # Signed, but by no time that is one.
        {TIMESTAMP: "٣", SIGNATURE: "v1=" + Signer(SECRET)._digest("٣", BODY)},
    ],
)
def test_what_is_not_signed_so_is_forged_and_not_stale(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureInvalid):
        read(headers)


def test_a_forged_old_one_does_not_learn_that_it_is_old() -> None:
    with pytest.raises(SignatureInvalid):
        read(signed(at=0, secret=bytes(32)))


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 0},
        {"amount": -1},
        {"amount": 1.5},
        {"amount": "12345"},
        {"amount": True},
        {"amount": 10**15 + 1},
        {"amount": 1 << 63},
        {"currency": "thb"},
        {"event": "payment.refunded"},
        {"reference": "ก"},
        {"payment_id": ""},
        {"payment_id": "x" * 65},
        {"at": "2026-11-21T09:00:00"},
        {"at": None},
        {"method": None},
    ],
)
def test_a_signed_callback_that_makes_no_sense_is_malformed(change: dict[str, Any]) -> None:
    body = json.dumps(json.loads(BODY) | change).encode()
    with pytest.raises(CallbackMalformed):
        read(signed(body), body)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_a_signed_body_that_is_no_callback_is_malformed(body: bytes) -> None:
    with pytest.raises(CallbackMalformed):
        read(signed(body), body)


def test_a_secret_of_less_than_32_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        Signer(bytes(31))


async def test_the_bank_knows_what_it_took_and_nothing_else(tmp_path: Path) -> None:
    journal, bank = Journal(tmp_path / "bank"), provider(tmp_path / "bank")
    assert await bank.ask(NOTICE.reference) == []
    journal.take(NOTICE)
    second = dataclasses.replace(NOTICE, payment_id="bank-2")
    journal.take(second)
    assert await bank.ask(NOTICE.reference) == [NOTICE, second]
    assert await bank.ask("OTHER") == []


def test_the_journal_is_its_owners_only(tmp_path: Path) -> None:
    Journal(tmp_path / "bank").take(NOTICE)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "bank").iterdir()}
    assert modes == {0o600}
    assert (tmp_path / "bank").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("reference", ["../secrets", "", "a/b", "x" * 26])
async def test_a_reference_names_no_other_file(tmp_path: Path, reference: str) -> None:
    with pytest.raises(Unavailable):
        await provider(tmp_path).ask(reference)
