"""HTTP clients that read no certificates, which takes 60 ms each: a stack is asked in the clear."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def transport(**more: Any) -> httpx.AsyncHTTPTransport:
    """A transport."""
    return httpx.AsyncHTTPTransport(verify=_TRUSTS_NOBODY, **more)


def client(**more: Any) -> httpx.AsyncClient:
    """A client."""
    return httpx.AsyncClient(verify=_TRUSTS_NOBODY, **more)
