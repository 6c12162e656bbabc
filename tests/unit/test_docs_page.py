"""The page at /docs: complete in itself, and its policy allows just what it holds."""

from __future__ import annotations

import base64
import hashlib
import re

from services.web.docs import Docs

DOCS = Docs(b"{}")
PAGE = DOCS.page.decode()
POLICY = dict(DOCS.page_headers)["content-security-policy"]


def test_nothing_comes_from_elsewhere() -> None:
    assert not re.findall(r"https?://(?!www\.w3\.org)", PAGE)
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", PAGE)
    assert "innerHTML" not in PAGE
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY


def test_the_policy_names_the_script_and_the_style_by_their_hashes() -> None:
    for tag in ("script", "style"):
        inside = re.findall(f"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in POLICY
