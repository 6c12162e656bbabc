"""Tokens are verified strictly, once each."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.auth import NoKeys, TokenVerifier, canonical
from services.mesh.errors import TokenExpired, TokenInvalid, TokenMissing
from tests.support.forgery import encode
from tests.support.mesh import Minter


class Time:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def verifier(minter: Minter, clock: Time, **more: object) -> TokenVerifier:
    return TokenVerifier(minter, issuer="sampan", audience="sampan", leeway=0, clock=clock, **more)  # type: ignore[arg-type]


@given(st.tuples(st.binary(min_size=1), st.binary(min_size=1), st.binary(min_size=1)))
def test_what_we_encode_is_canonical_and_with_padding_it_is_not(parts: tuple[bytes, bytes, bytes]) -> None:
    token = ".".join(encode(part) for part in parts)
    assert canonical(token)
    assert not canonical(token + "=")
    assert not canonical(token + "==")
    assert not canonical(token + "\n")
    assert not canonical(token + ".")


def test_spare_bits_are_not_canonical() -> None:
    assert canonical("YQ.YQ.YQ")
    assert not canonical("YQ.YQ.YR")


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "sid", "jti", "iat", "exp"])
async def test_every_claim_is_required(claim: str) -> None:
    minter = Minter()
    with pytest.raises(TokenInvalid):
        await verifier(minter, Time()).verify(f"Bearer {minter.token(**{claim: None})}")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "token"])
async def test_without_a_bearer_token_it_is_missing(header: str) -> None:
    with pytest.raises(TokenMissing):
        await verifier(Minter(), Time()).verify(header)


async def test_a_token_is_remembered_until_it_expires() -> None:
    minter, clock = Minter(), Time()
    tokens = verifier(minter, clock)
    header = f"Bearer {minter.token('ann', exp=int(clock.now) + 10)}"
    assert tokens.remembered(header) is None
    user = await tokens.verify(header)
    assert tokens.remembered(header) is user
    clock.now += 11
    assert tokens.remembered(header) is None
    with pytest.raises(TokenExpired):
        await tokens.verify(header)


async def test_a_revoked_session_is_refused_also_when_remembered() -> None:
    minter, clock = Minter(), Time()
    revoked: set[str] = set()
    tokens = verifier(minter, clock, revoked=lambda user: user.session_id in revoked)
    header = f"Bearer {minter.token('ann', sid='the-session')}"
    await tokens.verify(header)
    revoked.add("the-session")
    assert tokens.remembered(header) is None
    with pytest.raises(TokenInvalid):
        await tokens.verify(header)


async def test_memory_of_tokens_is_bounded() -> None:
    minter, clock = Minter(), Time()
    tokens = verifier(minter, clock, capacity=3)
    headers = [f"Bearer {minter.token()}" for _ in range(5)]
    for header in headers:
        await tokens.verify(header)
    assert [tokens.remembered(header) is not None for header in headers] == [False, False, True, True, True]


async def test_a_token_of_absurd_length_or_with_roles_of_another_shape_is_refused() -> None:
    minter = Minter()
    tokens = verifier(minter, Time())
    for token in (minter.token("x" * 5000), minter.token(roles="admin")):
        with pytest.raises(TokenInvalid):
            await tokens.verify(f"Bearer {token}")


async def test_without_keys_no_token_is_good() -> None:
    tokens = TokenVerifier(NoKeys(), issuer="sampan", audience="sampan", leeway=0, clock=Time())
    with pytest.raises(TokenInvalid):
        await tokens.verify(f"Bearer {Minter().token()}")
