"""One servicer of several, each with the methods of its subject."""

from __future__ import annotations


class Parts:
    """All methods; each is that of the first part which has it."""

    def __init__(self, *parts: object) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> object:
        for part in self._parts:
            if hasattr(part, name):
                return getattr(part, name)
        raise AttributeError(name)
