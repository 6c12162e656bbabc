"""Makes the tokens of a session: a signed access token, and a refresh token that is derived, not stored."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from uuid import UUID

import jwt

from services.identity.domain import Account, Session
from services.identity.keyring import KeyRing
from services.mesh.auth import ALGORITHM
from services.mesh.vault import Vault, keyed_hash


@dataclass(frozen=True, slots=True)
class Tokens:
    """A pair. `expires_in` in seconds, of the access token."""

    access: str
    refresh: str
    expires_in: int


class TokenIssuer:
    """Derives the pair of a session's generation.

    The same session and generation give the same pair, byte for byte: Ed25519 signs without chance, and all
    claims come from the session's row. So a lost answer can be given again without having been stored.
    """

    def __init__(
        self, keys: KeyRing, vault: Vault, *, issuer: str, audience: str, access_seconds: int
    ) -> None:
        self._keys = keys
        self._secret = vault.derive("refresh-tokens")
        self._issuer = issuer
        self._audience = audience
        self._access_seconds = access_seconds

    def issue(self, account: Account, session: Session) -> Tokens:
        """The pair of a session as it stands."""
        return Tokens(self._access(account, session), self.refresh_token(session), self._access_seconds)

    def refresh_token(self, session: Session) -> str:
        """Session id, generation and a MAC, in base64url: 52 bytes, opaque to its holder."""
        mac = keyed_hash(self._secret, session.id.hex, str(session.generation), session.salt.hex())
        raw = session.id.bytes + session.generation.to_bytes(4, "big") + mac
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
            "exp": issued + self._access_seconds,
        }
        if account.roles:
            claims["roles"] = list(account.roles)
        key = self._keys.newest
        return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.kid})


def _token_id(secret: bytes, session: Session) -> UUID:
    return UUID(bytes=keyed_hash(secret, "jti", session.id.hex, str(session.generation))[:16], version=4)
