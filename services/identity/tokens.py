"""Makes the tokens of a session: a signed access token, and a refresh token that is derived, not stored."""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from uuid import UUID

import jwt

from services.identity.domain import Account, Session
from services.identity.keyring import KeyRing
from services.mesh.auth import ALGORITHM
from services.mesh.vault import Vault, keyed_hash

# Session id, generation, HMAC-SHA-256.
_TOKEN_BYTES = 16 + 4 + 32


@dataclass(frozen=True, slots=True)
class Tokens:
    """A pair. `expires_in` in seconds, of the access token."""

    access: str
    refresh: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class Named:
    """What a refresh token says of itself; not yet believed."""

    session_id: UUID
    generation: int


class TokenIssuer:
    """Derives the pair of a session's generation.

    The same session and generation give the same pair, byte for byte: Ed25519 signs without chance, and all
    claims come from the session's row, as does the time that says which key signs. So a lost answer can be
    given again without having been stored.
    """

    def __init__(
        self, keys: KeyRing, vault: Vault, *, issuer: str, audience: str, access_seconds: int
    ) -> None:
        self._keys = keys
        self._secret = vault.derive("refresh-tokens")
        self._issuer = issuer
        self._audience = audience
        self.access_seconds = access_seconds

    def issue(self, account: Account, session: Session) -> Tokens:
        """The pair of a session as it stands."""
        return Tokens(self._access(account, session), self.refresh_token(session), self.access_seconds)

    def refresh_token(self, session: Session) -> str:
        """Session id, generation and a MAC, in base64url: 52 bytes, opaque to its holder."""
        return self._token(session.id, session.generation, session.salt)

    def read(self, token: str) -> Named | None:
        """Which session and generation a token names, or None when it is none of ours."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except ValueError:
            return None
        if len(raw) != _TOKEN_BYTES:
            return None
        return Named(UUID(bytes=raw[:16]), int.from_bytes(raw[16:20], "big"))

    def is_of(self, token: str, session: Session) -> bool:
        """Whether a token was issued for a session, in this generation or an earlier one."""
        named = self.read(token)
        if named is None or named.generation > session.generation:
            return False
        return hmac.compare_digest(token, self._token(session.id, named.generation, session.salt))

    def _token(self, session_id: UUID, generation: int, salt: bytes) -> str:
        mac = keyed_hash(self._secret, session_id.hex, str(generation), salt.hex())
        raw = session_id.bytes + generation.to_bytes(4, "big") + mac
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    def _access(self, account: Account, session: Session) -> str:
        issued = int(session.rotated_at.timestamp())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(account.id),
            "sid": str(session.id),
            "jti": str(_token_id(self._secret, session)),
            "iat": issued,
            "exp": issued + self.access_seconds,
        }
        if account.roles:
            claims["roles"] = list(account.roles)
        key = self._keys.at(session.rotated_at)
        return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.kid})


def _token_id(secret: bytes, session: Session) -> UUID:
    return UUID(bytes=keyed_hash(secret, "jti", session.id.hex, str(session.generation))[:16], version=4)
