"""QR payloads of the six rails say what they should, to us and to parsers that are not ours."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import konthaina_khqr
import promptpay_qr
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sgqrgen import SgQRGenerator
from vietnam_qr_pay import QRPay
from vietqr_emvco import VietQRParser

from services.payment.qr import image, payload, reference, tlv
from services.payment.qr.payees import SANDBOX
from services.payment.qr.rails import RAILS, Payee
from services.payment.qr.tlv import QrInvalid
from tests.support.scanning import scanned

EXPIRES = datetime(2026, 11, 21, 16, 30, tzinfo=UTC)
REFERENCE = "0PAID0REFERENCE0OF025CHAR"
METHODS = st.sampled_from(sorted(RAILS))
# As much as 13 characters hold, with two minor digits.
AMOUNTS = st.integers(1, 10**12 - 1)
IDS = st.uuids()

# Numbers and letters of ISO 4217 and 3166, said here once more: the table under test may be wrong.
COUNTRIES = {
    "promptpay": ("TH", "764", 2),
    "paynow": ("SG", "702", 2),
    "qris": ("ID", "360", 2),
    "duitnow": ("MY", "458", 2),
    "qrph": ("PH", "608", 2),
    "vietqr": ("VN", "704", 0),
}
MARKS = {
    "promptpay": ("29", "A000000677010111"),
    "paynow": ("26", "SG.PAYNOW"),
    "qris": ("51", "ID.CO.QRIS.WWW"),
    "duitnow": ("26", "A0000006150001"),
    "qrph": ("28", "ph.ppmi.p2m"),
    "vietqr": ("38", "A000000727"),
}


def made(method: str, amount: int = 12_345, to: str = REFERENCE) -> str:
    return payload.make(method, SANDBOX[method], amount, to, EXPIRES)


def independent_parsers(text: str) -> list[dict[str, str]]:
    """Fields by tag, as each of three parsers from the registry reads them."""
    return [
        konthaina_khqr.decode(text),
        SgQRGenerator.parse_sgqr(text),
        VietQRParser.parse_raw(text),
    ]


@given(METHODS, AMOUNTS, IDS)
def test_what_a_payload_asks_for_is_read_back(method: str, amount: int, made_for: UUID) -> None:
    asked = payload.parse(made(method, amount, reference.of_id(made_for)))
    assert (asked.method, asked.amount, asked.currency) == (method, amount, RAILS[method].currency)
    assert reference.to_id(asked.reference) == made_for


@given(METHODS, AMOUNTS, IDS)
def test_independent_parsers_read_the_same(method: str, amount: int, made_for: UUID) -> None:
    text = made(method, amount, reference.of_id(made_for))
    country, number, digits = COUNTRIES[method]
    tag, mark = MARKS[method]
    for fields in independent_parsers(text):
        assert (fields["00"], fields["01"], fields["58"], fields["53"]) == ("01", "12", country, number)
        assert Decimal(fields["54"]) == Decimal(amount).scaleb(-digits)
        assert len(fields["54"].partition(".")[2]) == digits
        assert (fields["59"], fields["60"]) == (SANDBOX[method].name, SANDBOX[method].city)
        assert fields[tag].startswith(f"00{len(mark):02d}{mark}")
    for additional in independent_parsers(independent_parsers(text)[0]["62"]):
        assert additional["05"] == reference.of_id(made_for)


@given(METHODS, AMOUNTS)
def test_independent_checksums_agree(method: str, amount: int) -> None:
    text = made(method, amount)
    assert konthaina_khqr.verify(text)
    assert VietQRParser.verify_checksum(text)
    assert QRPay(text).is_valid
    # This one writes the fields anew, with a checksum of its own.
    assert SgQRGenerator.build_sgqr(SgQRGenerator.parse_sgqr(text)) == text


def test_promptpay_names_its_account_as_another_generator_does() -> None:
    theirs = konthaina_khqr.decode(promptpay_qr.generate_payload(SANDBOX["promptpay"].account["tax_id"], 1.0))
    ours = konthaina_khqr.decode(made("promptpay", 100))
    for tag in ("00", "01", "29", "53", "54", "58"):
        assert ours[tag] == theirs[tag]


def test_paynow_names_the_company_fixes_the_amount_and_says_when_it_ends() -> None:
    fields = SgQRGenerator.parse_sgqr(made("paynow"))
    account = SgQRGenerator.parse_sgqr(fields["26"])
    assert account == {
        "00": "SG.PAYNOW",
        "01": "2",
        "02": SANDBOX["paynow"].account["uen"],
        "03": "0",
        # In Singapore's time.
        "04": "20261122003000",
    }
    # Banks there show the bill number.
    assert SgQRGenerator.parse_sgqr(fields["62"])["01"] == REFERENCE


def test_vietqr_names_bank_account_and_purpose_to_both_parsers_of_it() -> None:
    text = made("vietqr", 150_000)
    one = QRPay(text)
    assert (one.provider.guid, one.provider.service) == ("A000000727", "QRIBFTTA")
    assert (one.consumer.bank_bin, one.consumer.bank_number) == ("970400", "0000000000")
    assert (one.amount, one.currency, one.nation, one.init_method) == ("150000", "704", "VN", "12")
    assert (one.additional_data.reference, one.additional_data.purpose) == (REFERENCE, REFERENCE)
    other = VietQRParser.parse(text)
    assert (other["bank_bin"], other["account_number"]) == ("970400", "0000000000")
    assert (other["memo"], other["amount"]) == (REFERENCE, 150_000.0)


def test_qris_has_the_acquirer_in_26_and_the_national_number_in_51() -> None:
    fields = konthaina_khqr.decode(made("qris"))
    acquirer, national = konthaina_khqr.decode(fields["26"]), konthaina_khqr.decode(fields["51"])
    account = SANDBOX["qris"].account
    assert (acquirer["01"], acquirer["02"]) == (account["pan"], account["merchant_id"])
    assert (national["02"], national["03"]) == (account["nmid"], account["criteria"])


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("duitnow", {"01": "acquirer", "02": "merchant_id"}),
        ("qrph", {"01": "acquirer", "03": "merchant_id", "04": "credit_account"}),
    ],
)
def test_duitnow_and_qrph_name_acquirer_and_merchant(method: str, names: dict[str, str]) -> None:
    account = konthaina_khqr.decode(konthaina_khqr.decode(made(method))[MARKS[method][0]])
    assert {tag: account[tag] for tag in names} == {
        tag: SANDBOX[method].account[name] for tag, name in names.items()
    }


@pytest.mark.parametrize("method", sorted(RAILS))
def test_the_picture_scans_to_the_payload(method: str) -> None:
    text = made(method, to=reference.of_id(UUID(int=(1 << 128) - 1)))
    assert scanned(image.png(text)) == [text]


@given(METHODS, st.integers(0, 400), st.characters(codec="ascii"))
def test_a_payload_with_one_other_character_is_refused(method: str, at: int, other: str) -> None:
    text = made(method)
    at %= len(text)
    changed = text[:at] + other + text[at + 1 :]
    # The digits of the checksum may be written small.
    if changed.upper() != text.upper():
        with pytest.raises(QrInvalid):
            payload.parse(changed)


@given(METHODS, st.integers(0, 400))
def test_a_payload_that_is_cut_short_is_refused(method: str, at: int) -> None:
    text = made(method)
    with pytest.raises(QrInvalid):
        payload.parse(text[: at % len(text)])


@given(st.text(max_size=60))
def test_any_text_is_refused_cleanly(text: str) -> None:
    with pytest.raises(QrInvalid):
        payload.parse(text)
    with pytest.raises(QrInvalid):
        payload.parse(tlv.sealed(text) if text.isascii() else text)


def changed(method: str, **fields: str) -> str:
    """A payload with other top-level fields, and a checksum that is right; an empty one is left out."""
    known = tlv.read(tlv.opened(made(method))) | {tag[1:]: value for tag, value in fields.items()}
    return tlv.sealed(tlv.write((tag, value) for tag, value in sorted(known.items()) if value))


@pytest.mark.parametrize(
    "text",
    [
        changed("promptpay", _01="11"),
        changed("promptpay", _53="702"),
        changed("promptpay", _58="SG"),
        changed("promptpay", _54=""),
        changed("promptpay", _54="0.00"),
        changed("promptpay", _54="1.234"),
        changed("promptpay", _54="-1.00"),
        changed("promptpay", _54="1e3"),
        changed("promptpay", _62=""),
        changed("promptpay", _62="0503abc"),
        changed("promptpay", _29="0004ABCD"),
        changed("vietqr", _54="100.5"),
    ],
)
def test_a_payload_that_asks_for_no_payment_we_know_is_refused(text: str) -> None:
    with pytest.raises(QrInvalid):
        payload.parse(text)


@pytest.mark.parametrize(("text", "amount"), [("7", 700), ("7.5", 750), ("7.05", 705)])
def test_amounts_may_leave_minor_digits_out(text: str, amount: int) -> None:
    assert payload.parse(changed("promptpay", _54=text)).amount == amount


@pytest.mark.parametrize(
    ("method", "amount"),
    [("promptpay", 0), ("promptpay", -1), ("promptpay", 10**12), ("vietqr", 10**13), ("qris", 2**63 - 1)],
)
def test_an_amount_that_does_not_fit_is_refused(method: str, amount: int) -> None:
    with pytest.raises(QrInvalid):
        made(method, amount)


@pytest.mark.parametrize("wrong", ["", "a", "A B", "ก", "A" * 26])
def test_a_reference_that_rails_do_not_carry_is_refused(wrong: str) -> None:
    with pytest.raises(QrInvalid):
        made("promptpay", to=wrong)


@pytest.mark.parametrize("wrong", ["", "ร้าน", "two\nlines", "x" * 100])
def test_a_payee_that_a_qr_cannot_name_is_refused(wrong: str) -> None:
    payee = Payee(wrong, "BANGKOK", SANDBOX["promptpay"].account)
    with pytest.raises(QrInvalid):
        payload.make("promptpay", payee, 100, REFERENCE, EXPIRES)


@given(IDS)
def test_a_reference_has_25_digits_and_capitals_and_gives_its_id_back(one: UUID) -> None:
    text = reference.of_id(one)
    assert len(text) == 25
    assert text.isalnum()
    assert text == text.upper()
    assert reference.to_id(text) == one


@pytest.mark.parametrize("text", ["", "0" * 24, "Z" * 25, "a" * 25, "٣" * 25])
def test_a_text_that_is_no_reference_has_no_id(text: str) -> None:
    assert reference.to_id(text) is None
