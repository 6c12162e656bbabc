"""How long to wait before the next try."""

from __future__ import annotations

import random


class Backoff:
    """Doubles from `first` to `ceiling` seconds; a wait is a random share of it: clients come apart."""

    def __init__(self, first: float = 0.2, ceiling: float = 10.0) -> None:
        self._first = first
        self._ceiling = ceiling
        self._next = first

    def wait(self, told: float | None = None) -> float:
        """Seconds to wait now. What the server told is kept to, with up to a tenth more."""
        grown = self._next
        self._next = min(self._ceiling, grown * 2)
        if told:
            return told * random.uniform(1.0, 1.1)  # noqa: S311 - spreads load, guards nothing
        return grown * random.uniform(0.5, 1.0)  # noqa: S311

    def reset(self) -> None:
        """Something went well."""
        self._next = self._first
