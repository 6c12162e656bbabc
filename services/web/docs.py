"""What /openapi.json and /docs answer: the document, and one page without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

FOLDER = Path(__file__).with_name("page")


class Docs:
    """Read once. The page holds its script and its style, and a policy that allows these two alone."""

    def __init__(self, openapi: bytes) -> None:
        self.openapi = openapi
        style = (FOLDER / "docs.css").read_text(encoding="utf-8")
        script = (FOLDER / "docs.js").read_text(encoding="utf-8")
        frame = (FOLDER / "docs.html").read_text(encoding="utf-8")
        self.page = frame.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script).encode()
        policy = (
            "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            f"frame-ancestors 'none'; script-src {_source(script)}; style-src {_source(style)}"
        )
        self.headers = (("cache-control", "no-cache"), ("x-content-type-options", "nosniff"))
        self.page_headers = (("content-security-policy", policy), ("referrer-policy", "no-referrer"))


def _source(text: str) -> str:
    """An inline script or style as Content-Security-Policy names it."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
