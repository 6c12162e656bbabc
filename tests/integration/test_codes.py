"""One-time codes: five tries, once, five minutes; whoever proves an identifier owns it."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import asyncpg
import grpc
import pytest

from sampan.identity.v1 import identity_service_pb2 as pb
from sampan.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.mailbox import Mailbox
from tests.support.waiting import crowd

PASSWORD = "a good password"


def phone() -> str:
    return "+6681" + str(secrets.randbelow(10**7)).zfill(7)


def email() -> str:
    return f"{secrets.token_hex(6)}@example.com"


async def send(stub: IdentityServiceStub, to: str, purpose: str = "") -> str:
    """Sends a code; returns the challenge."""
    kind = "email" if "@" in to else "phone"
    sent = await stub.SendOtp(pb.SendOtpRequest(identifier=to, type=kind, country="TH", purpose=purpose))
    assert sent.success
    return sent.session_id


async def verify(stub: IdentityServiceStub, session: str, code: str, **more: Any) -> pb.VerifyOtpResponse:
    return await stub.VerifyOtp(pb.VerifyOtpRequest(session_id=session, code=code, **more))


async def login(stub: IdentityServiceStub, to: str, mailbox: Mailbox) -> pb.VerifyOtpResponse:
    """Signs in by a code."""
    session = await send(stub, to)
    return await verify(stub, session, await mailbox.code(to))


def other(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


@pytest.mark.parametrize("identifier", [phone, email])
async def test_a_code_makes_the_account_the_first_time_and_signs_in_the_next(
    stub: IdentityServiceStub, mailbox: Mailbox, identifier: Any
) -> None:
    to = identifier()
    first = await login(stub, to, mailbox)
    assert to in {first.user.phone, first.user.email}
    assert first.user.kyc_tier == 1
    second = await login(stub, to, mailbox)
    assert second.user.id == first.user.id


async def test_a_national_number_is_read_by_its_country(stub: IdentityServiceStub, mailbox: Mailbox) -> None:
    number = phone()
    session = await send(stub, "0" + number.removeprefix("+66"))
    done = await verify(stub, session, await mailbox.code(number))
    assert done.user.phone == number


@pytest.mark.parametrize(
    ("identifier", "kind", "wanted"),
    [
        ("+6600000000", "phone", "PHONE_INVALID"),
        ("hello", "phone", "PHONE_INVALID"),
        ("no address", "email", "EMAIL_INVALID"),
        ("+66812345678", "pigeon", "INVALID_ARGUMENT"),
        ("", "phone", "INVALID_ARGUMENT"),
    ],
)
async def test_what_cannot_be_reached_is_refused(
    stub: IdentityServiceStub, identifier: str, kind: str, wanted: str
) -> None:
    assert await reason(stub.SendOtp(pb.SendOtpRequest(identifier=identifier, type=kind))) == wanted


async def test_two_hundred_wrong_guesses_of_a_crowd_use_exactly_five_tries_and_then_the_right_code_fails(
    stub: IdentityServiceStub, mailbox: Mailbox, owner: asyncpg.Connection
) -> None:
    to = phone()
    session = await send(stub, to)
    code = await mailbox.code(to)
    reasons = await crowd([lambda: reason(verify(stub, session, other(code)))] * 200)
    assert reasons.count("CODE_WRONG") == 5
    assert reasons.count("CODE_SPENT") == 195
    assert await owner.fetchval("SELECT tries FROM challenges WHERE id = $1", session) == 5
    assert await reason(verify(stub, session, code)) == "CODE_SPENT"


async def test_a_code_works_once_also_for_fifty_at_a_time(
    stub: IdentityServiceStub, mailbox: Mailbox
) -> None:
    to = phone()
    session = await send(stub, to)
    code = await mailbox.code(to)
    done = await asyncio.gather(*(reason(verify(stub, session, code)) for _ in range(50)))
    assert done.count("") == 1
    assert set(done) == {"", "CODE_SPENT"}


async def test_an_expired_an_unknown_and_a_foreign_code_are_refused(
    stub: IdentityServiceStub, mailbox: Mailbox, owner: asyncpg.Connection
) -> None:
    to = phone()
    session = await send(stub, to)
    await owner.execute("UPDATE challenges SET expires_at = now() WHERE id = $1", session)
    assert await reason(verify(stub, session, await mailbox.code(to))) == "CODE_SPENT"
    unknown = "01890000-0000-7000-8000-000000000000"
    assert await reason(verify(stub, unknown, "123456")) == "CODE_SPENT"
    first, second = await send(stub, to), await send(stub, to)
    code = await mailbox.code(to)
    assert await reason(verify(stub, first, code)) in {"CODE_WRONG", ""}
    assert await reason(verify(stub, second, code)) == ""


async def test_ten_codes_a_day_go_to_one_identifier(stub: IdentityServiceStub) -> None:
    to = phone()
    reasons = await asyncio.gather(
        *(reason(stub.SendOtp(pb.SendOtpRequest(identifier=to, type="phone"))) for _ in range(15))
    )
    assert sorted(reasons) == [""] * 10 + ["CODES_EXHAUSTED"] * 5


async def test_who_registered_with_somebody_else_s_phone_has_nothing_after_they_prove_it(
    stub: IdentityServiceStub, mailbox: Mailbox, identity_channel: grpc.aio.Channel
) -> None:
    number, backdoor = phone(), email()
    username = "n" + secrets.token_hex(6)
    attacker = await stub.Register(
        pb.RegisterRequest(username=username, password=PASSWORD, phone=number, email=backdoor)
    )
    victim = await login(stub, number, mailbox)
    assert victim.user.phone == number
    assert victim.user.email == ""
    # The password, the session and the other address that the attacker left count for nothing.
    for attempt in (
        pb.LoginRequest(phone=number, password=PASSWORD),
        pb.LoginRequest(username=username, password=PASSWORD),
        pb.LoginRequest(email=backdoor, password=PASSWORD),
    ):
        assert await reason(stub.Login(attempt)) == "INVALID_CREDENTIALS"
    refresh = stub.RefreshToken(pb.RefreshTokenRequest(refresh_token=attacker.refresh_token))
    assert await reason(refresh) in {"SESSION_ENDED", "REFRESH_TOKEN_REUSED"}
    session = await send(stub, backdoor, "reset")
    assert (await mailbox.all(backdoor))[0].code == ""
    assert await reason(verify(stub, session, "123456", new_password="a new password")) == "CODE_WRONG"


async def test_the_first_proof_removes_everybody_else_s_claim(
    stub: IdentityServiceStub, mailbox: Mailbox, owner: asyncpg.Connection
) -> None:
    number = phone()
    for _ in range(3):
        username = "n" + secrets.token_hex(6)
        await stub.Register(pb.RegisterRequest(username=username, password=PASSWORD, phone=number))
    done = await login(stub, number, mailbox)
    claims = await owner.fetch("SELECT account_id, proven_at FROM identifiers WHERE kind = 'phone'")
    mine = [row for row in claims if str(row["account_id"]) == done.user.id]
    assert len(mine) == 1
    assert mine[0]["proven_at"] is not None
    assert await reason(stub.Login(pb.LoginRequest(phone=number, password=PASSWORD))) == "INVALID_CREDENTIALS"


async def test_twenty_first_proofs_at_once_make_one_account(
    stub: IdentityServiceStub, mailbox: Mailbox
) -> None:
    number = phone()
    sessions = [await send(stub, number) for _ in range(5)]
    codes = [delivery.code for delivery in reversed(await mailbox.all(number))]
    done = await asyncio.gather(
        *(verify(stub, session, code) for session, code in zip(sessions, codes, strict=True))
    )
    assert len({one.user.id for one in done}) == 1


async def test_a_reset_sets_the_password_and_ends_every_session(
    stub: IdentityServiceStub, mailbox: Mailbox
) -> None:
    to = email()
    before = await login(stub, to, mailbox)
    session = await send(stub, to, "reset")
    code = await mailbox.code(to)
    assert await reason(verify(stub, session, code)) == "NEW_PASSWORD_REQUIRED"
    assert await reason(verify(stub, session, code, new_password="password1")) == "PASSWORD_TOO_COMMON"
    await verify(stub, session, code, new_password="a new password")
    assert await reason(stub.Login(pb.LoginRequest(email=to, password="a new password"))) == ""
    refresh = stub.RefreshToken(pb.RefreshTokenRequest(refresh_token=before.refresh_token))
    assert await reason(refresh) == "SESSION_ENDED"


async def test_a_reset_for_nobody_is_answered_alike_and_tells_only_its_reader(
    stub: IdentityServiceStub, mailbox: Mailbox
) -> None:
    to = email()
    assert await send(stub, to, "reset")
    (only,) = await mailbox.all(to)
    assert only.code == ""


async def test_no_code_lies_in_the_database(
    stub: IdentityServiceStub, mailbox: Mailbox, owner: asyncpg.Connection, identity_database: Clone
) -> None:
    to = phone()
    session = await send(stub, to)
    code = await mailbox.code(to)
    row = await owner.fetchrow("SELECT * FROM challenges WHERE id = $1", session)
    for value in row.values():
        shown = value if isinstance(value, bytes) else str(value).encode()
        assert to.encode() not in shown
        assert code.encode() != shown
    await verify(stub, session, code)
    assert await owner.fetchval("SELECT sealed FROM challenges WHERE id = $1", session) is None
