"""The environment as the stack sees it: the caller's, with the repository's .env file beneath."""

from __future__ import annotations

import os

from services.stack.paths import ROOT


def environment() -> dict[str, str]:
    """The caller's variables; those of `.env` where the caller says nothing, as services read it, too."""
    file = ROOT / ".env"
    if not file.exists():
        return dict(os.environ)
    from dotenv import dotenv_values

    given = {name: value for name, value in dotenv_values(file).items() if value is not None}
    return {**given, **os.environ}
