"""Verifies access tokens: strictly, once each, and never by an unverified claim."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.mesh.call import User
from services.mesh.clock import Clock
from services.mesh.errors import TokenExpired, TokenInvalid, TokenMissing

ALGORITHM = "EdDSA"
REQUIRED_CLAIMS = ("iss", "aud", "sub", "sid", "jti", "iat", "exp")
MAX_TOKEN_LENGTH = 4096

_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")


class Keys(Protocol):
    """Where public keys come from: identity's own table, or its JWKS."""

    async def find(self, kid: str, /) -> Ed25519PublicKey | None:
        """The key of an id, or None when nobody has it. May ask over the network, rarely."""


class NoKeys:
    """For services that ask nobody for a token: no token is valid."""

    async def find(self, _kid: str, /) -> Ed25519PublicKey | None:
        """Nothing."""
        return None


def canonical(token: str) -> bool:
    """Whether each of three parts is base64url in the one canonical form: no padding, no spare bits set.

    Half of Wycheproof's JWS vectors differ from a valid token only here, and decoders accept them.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return False
    for part in parts:
        if not _SEGMENT.fullmatch(part) or len(part) % 4 == 1:
            return False
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != part:
            return False
    return True


class TokenVerifier:
    """Turns `authorization` metadata into a User.

    A verified token is remembered by the SHA-256 of the whole of it until it expires; at most `capacity`
    are remembered, the oldest go first. `revoked` is asked on every call, with session and token id.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str,
        audience: str,
        leeway: float,
        clock: Clock,
        revoked: Callable[[User], bool] = lambda _: False,
        capacity: int = 50_000,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._clock = clock
        self._revoked = revoked
        self._capacity = capacity
        self._known: dict[bytes, User] = {}

    def remembered(self, authorization: str) -> User | None:
        """The user of a token that was verified before and still counts; no I/O, no waiting."""
        user = self._known.get(hashlib.sha256(authorization.encode()).digest())
        if user is None or user.expires + self._leeway <= self._clock() or self._revoked(user):
            return None
        return user

    async def verify(self, authorization: str) -> User:
        """The user of `Bearer <token>`. Raises TokenMissing, TokenInvalid or TokenExpired."""
        if not authorization:
            raise TokenMissing
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenMissing
        user = await self._decode(token)
        if self._revoked(user):
            raise TokenInvalid
        if len(self._known) >= self._capacity:
            del self._known[next(iter(self._known))]
        self._known[hashlib.sha256(authorization.encode()).digest()] = user
        return user

    async def _decode(self, token: str) -> User:
        if len(token) > MAX_TOKEN_LENGTH or not canonical(token):
            raise TokenInvalid
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != ALGORITHM:
                raise TokenInvalid
            key = await self._keys.find(str(header.get("kid", "")))
            if key is None:
                raise TokenInvalid
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": list(REQUIRED_CLAIMS), "verify_exp": False, "verify_iat": False},
            )
            user = _user(claims)
        except (jwt.InvalidTokenError, ValueError, TypeError) as error:
            raise TokenInvalid from error
        if user.expires + self._leeway <= self._clock():
            raise TokenExpired
        return user


def _user(claims: dict[str, Any]) -> User:
    roles = claims.get("roles", [])
    if not isinstance(roles, list):
        raise TypeError("roles is not a list")
    return User(
        id=str(claims["sub"]),
        session_id=str(claims["sid"]),
        token_id=str(claims["jti"]),
        roles=frozenset(str(role) for role in roles),
        expires=float(claims["exp"]),
    )
