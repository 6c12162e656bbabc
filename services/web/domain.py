"""Values of web: what is up and what is down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Health:
    """Whether each part answers, by name."""

    parts: Mapping[str, bool]

    @property
    def healthy(self) -> bool:
        """Whether all of them do."""
        return all(self.parts.values())

    def answer(self) -> dict[str, str]:
        """The answer's fields: `status`, and each part as `up` or `down`."""
        status = {"status": "healthy" if self.healthy else "unhealthy"}
        return status | {name: "up" if up else "down" for name, up in sorted(self.parts.items())}
