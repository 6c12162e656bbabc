"""Access tokens that must not be accepted, made out of a good one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def encode(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(part: str) -> bytes:
    """The bytes of a part."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def signed(key: Ed25519PrivateKey, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """A token, signed by a key."""
    signing = encode(json.dumps(header).encode()) + "." + encode(json.dumps(claims).encode())
    return f"{signing}.{encode(key.sign(signing.encode()))}"


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header, claims and signature."""
    header, claims, signature = token.split(".")
    return json.loads(decode(header)), json.loads(decode(claims)), decode(signature)


def other_key(token: str) -> str:
    """Right in everything, signed by somebody else."""
    header, claims, _ = parts(token)
    return signed(Ed25519PrivateKey.generate(), header, claims)


def changed_claims(token: str) -> str:
    """Another subject under the old signature."""
    header, claims, signature = parts(token)
    claims["sub"] = "00000000-0000-7000-8000-000000000000"
    return ".".join(
        (encode(json.dumps(header).encode()), encode(json.dumps(claims).encode()), encode(signature))
    )


def unsigned(token: str) -> str:
    """alg: none."""
    header, claims, _ = parts(token)
    header["alg"] = "none"
    return encode(json.dumps(header).encode()) + "." + encode(json.dumps(claims).encode()) + "."


def symmetric(public: bytes) -> Callable[[str], str]:
    """HS256 with the public key as its secret."""

    def forge(token: str) -> str:
        header, claims, _ = parts(token)
        header["alg"] = "HS256"
        signing = encode(json.dumps(header).encode()) + "." + encode(json.dumps(claims).encode())
        return f"{signing}.{encode(hmac.new(public, signing.encode(), hashlib.sha256).digest())}"

    return forge


def resigned(key: Ed25519PrivateKey, kid: str, **changed: Any) -> Callable[[str], str]:
    """Signed by the true key, with other claims."""

    def forge(token: str) -> str:
        _, claims, _ = parts(token)
        return signed(key, {"alg": "EdDSA", "kid": kid, "typ": "JWT"}, claims | changed)

    return forge


def padded(token: str) -> str:
    """The same token with padding that base64 decoders forgive."""
    return token + "=="


def expired(key: Ed25519PrivateKey, kid: str) -> Callable[[str], str]:
    """Good until an hour ago."""
    now = int(time.time())
    return resigned(key, kid, iat=now - 7200, exp=now - 3600)
