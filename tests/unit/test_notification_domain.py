"""Texts in every language, what fits them, and when to try again."""

from __future__ import annotations

from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.mesh.ids import uuid7
from services.mesh.vault import SealBroken, Vault
from services.notification.domain import (
    DEVICE_LENGTH,
    PARAMETERS,
    Channel,
    Letter,
    Order,
    compose,
    expires_after,
    harmless,
    is_address,
    language_of,
    needed,
    normal_address,
    retry_delay,
    unfit_parameters,
)
from services.notification.letters import Letters
from services.notification.settings import NotificationSettings
from services.notification.texts import TEXTS

LANGUAGES = ("en", "th", "id", "ms", "vi", "tl")
GOOD = {"code": "123456", "minutes": "5", "device": "Pixel 9"}
EVERY = [
    pytest.param(template, language, id=f"{template}-{language}")
    for template in TEXTS
    for language in LANGUAGES
]


def order(template: str, channel: Channel = Channel.SMS, language: str = "en", **parameters: str) -> Order:
    to = "+66812345678" if channel is Channel.SMS else "somchai@example.com"
    return Order(channel, template, language, to, parameters or GOOD)


@pytest.mark.parametrize(("template", "language"), EVERY)
def test_every_text_says_all_that_it_is_given_and_is_one_sms(template: str, language: str) -> None:
    letter = compose(order(template, language=language))
    for name in needed(template):
        assert GOOD[name] in letter.body
    assert "{" not in letter.body
    assert len(letter.body) <= 160
    assert letter.code == (GOOD["code"] if "code" in needed(template) else "")


@pytest.mark.parametrize(("template", "language"), EVERY)
def test_translations_have_the_same_parameters_and_differ(template: str, language: str) -> None:
    text = TEXTS[template][language]
    assert {name for _, name, _, _ in Formatter().parse(text.text) if name} == set(needed(template))
    assert language == "en" or text.text != TEXTS[template]["en"].text


@pytest.mark.parametrize("template", TEXTS)
def test_an_email_has_a_subject_without_the_code_and_an_sms_has_none(template: str) -> None:
    email = compose(order(template, Channel.EMAIL))
    assert email.subject
    assert GOOD["code"] not in email.subject
    assert compose(order(template)).subject == ""


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("th", "th"),
        ("th-TH", "th"),
        ("VI_vn", "vi"),
        ("fil-PH", "tl"),
        ("", "en"),
        ("xx", "en"),
        ("zh-Hant-SG", "en"),
    ],
)
def test_the_nearest_language_is_taken(tag: str, language: str) -> None:
    assert language_of(tag) == language


def test_parameters_that_are_missing_or_of_another_form_are_named() -> None:
    assert set(unfit_parameters(order("code_login", other="x"))) == {"code", "minutes"}
    assert set(unfit_parameters(order("code_login", code="12 34", minutes="5"))) == {"code"}
    assert set(unfit_parameters(order("code_login", code="1234", minutes="0"))) == {"minutes"}
    assert set(unfit_parameters(order("code_login", code="1234", minutes="1441"))) == {"minutes"}
    assert set(unfit_parameters(order("new_device", device=" \n/"))) == {"device"}
    assert not unfit_parameters(order("code_login", code="1234", minutes="1440", other="x"))
    assert not unfit_parameters(order("no_account", other="x"))


@given(st.integers(min_value=0, max_value=3000))
def test_minutes_are_1_to_1440(minutes: int) -> None:
    fits = PARAMETERS["minutes"][0].fullmatch(str(minutes)) is not None
    assert fits == (1 <= minutes <= 1440)


def test_codes_expire_and_news_does_not() -> None:
    assert expires_after(order("code_login")) == 300
    assert expires_after(order("password_changed")) is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("iPhone 15 (iOS 17.1)", "iPhone 15 (iOS 17.1)"),
        ("โทรศัพท์ของสมชาย", "โทรศัพท์ของสมชาย"),
        ("win at http://evil.example/x now", "win at http evil example x now"),
        ("a\r\nBcc: b@c.example", "a Bcc b c example"),
    ],
)
def test_a_device_name_carries_no_link_and_no_line(name: str, shown: str) -> None:
    assert harmless(name) == shown


@given(st.text(max_size=200))
def test_any_device_name_is_short_and_one_line(name: str) -> None:
    shown = harmless(name)
    assert len(shown) <= DEVICE_LENGTH
    assert not set(shown) & set("\r\n\t/:@<>{}")
    if PARAMETERS["device"][0].fullmatch(name):
        assert shown


@pytest.mark.parametrize("to", ["+66812345678", "+6591234567", "+12025550123"])
def test_numbers_in_e164_are_addresses_of_sms(to: str) -> None:
    assert is_address(Channel.SMS, to)
    assert not is_address(Channel.EMAIL, to)


@pytest.mark.parametrize("to", ["0812345678", "+0812345678", "+66 81", "+66812345678\n", "+1234567890123456"])
def test_other_numbers_are_not(to: str) -> None:
    assert not is_address(Channel.SMS, to)


@pytest.mark.parametrize("to", ["a@b.example", "first.last+tag@b.example", "สมชาย@ตัวอย่าง.ไทย"])
def test_one_mailbox_is_an_address_of_email(to: str) -> None:
    assert is_address(Channel.EMAIL, to)


@pytest.mark.parametrize(
    "to", ["a", "a@", "@b", "a@b@c", "a@b, c@d", "a@b\r\nBcc: c@d", "A <a@b>", "a b@c", '"a"@b', "a@b;c@d"]
)
def test_anything_else_is_not(to: str) -> None:
    assert not is_address(Channel.EMAIL, to)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_double_up_to_the_ceiling_and_half_is_chance(attempt: int, chance: float) -> None:
    whole = min(60.0, 2.0 ** min(attempt - 1, 10))
    delay = retry_delay(attempt, first=1, ceiling=60, chance=chance)
    assert whole / 2 <= delay <= whole


def test_waits_of_one_chance_grow_until_the_ceiling() -> None:
    waits = [retry_delay(attempt, first=1, ceiling=10, chance=0.5) for attempt in range(1, 7)]
    assert waits == [0.75, 1.5, 3.0, 6.0, 7.5, 7.5]


def test_reprs_show_nothing_personal() -> None:
    made = order("code_login")
    assert "812345678" not in repr(made)
    assert "123456" not in repr(made) + repr(compose(made))


def test_a_sealed_letter_opens_for_its_own_delivery_only() -> None:
    letters = Letters(Vault(bytes(32)))
    mine, other = uuid7(), uuid7()
    letter = Letter("+66812345678", "", "สวัสดี 123456", "123456")
    sealed = letters.seal(mine, letter)
    assert letters.open(mine, sealed) == letter
    with pytest.raises(SealBroken):
        letters.open(other, sealed)


def test_a_recipient_is_found_in_any_case_and_an_order_is_told_from_any_other() -> None:
    letters = Letters(Vault(bytes(32)))
    assert letters.recipient(" A@B.example") == letters.recipient("a@b.EXAMPLE")
    assert normal_address(" A@B.example ") == "a@b.example"
    base = order("code_login", code="1234", minutes="5")
    others = [
        order("code_reset", code="1234", minutes="5"),
        order("code_login", code="1235", minutes="5"),
        order("code_login", language="th", code="1234", minutes="5"),
        order("code_login", Channel.EMAIL, code="1234", minutes="5"),
        order("code_login", code="1234", minutes="5", device="x"),
    ]
    assert len({letters.fingerprint(one) for one in (base, *others)}) == 6
    assert letters.fingerprint(base) == letters.fingerprint(order("code_login", minutes="5", code="1234"))


REQUIRED = {
    "tls_cert": "c",
    "tls_key": "k",
    "tls_ca": "a",
    "database_url": "postgresql://x",
    "master_key": "QQ==",
}


@pytest.mark.parametrize(
    "more",
    [
        {"email_provider": "smtp", "smtp_host": "mail.example"},
        {"sms_provider": "http_sms", "http_sms_url": "https://sms.example"},
        {"provider_timeout": 30, "lease_seconds": 30},
    ],
)
def test_settings_that_would_lose_messages_are_refused_without_showing_secrets(
    more: dict[str, object],
) -> None:
    with pytest.raises(ValidationError) as raised:
        NotificationSettings(**REQUIRED, smtp_password="canary-password", **more)
    assert "canary-password" not in str(raised.value)
