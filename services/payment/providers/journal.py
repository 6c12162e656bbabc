"""What the sandbox bank has taken: a folder in the home, with a file for each reference."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from services.payment.providers.provider import Event, Notice

_REFERENCE = re.compile(r"[0-9A-Z]{1,25}")


class Journal:
    """Payments by reference. Only its owner can read it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, reference: str) -> list[Notice]:
        """The payments taken for a reference, the first one first."""
        try:
            kept = json.loads(self._file(reference).read_text())
        except FileNotFoundError:
            return []
        return [_notice(one) for one in kept]

    def take(self, notice: Notice) -> None:
        """Writes a payment down: from now on the bank has the money."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = [*self.of(notice.reference), notice]
        text = json.dumps([asdict(one) | {"at": one.at.isoformat()} for one in kept], indent=1)
        file = self._file(notice.reference)
        scratch = file.with_name(f".{file.name}.{os.getpid()}")
        scratch.touch(mode=0o600)
        scratch.write_text(text)
        scratch.replace(file)

    def _file(self, reference: str) -> Path:
        if not _REFERENCE.fullmatch(reference):
            raise ValueError("this is no reference")
        return self._folder / f"{reference}.json"


def _notice(kept: dict[str, str | int]) -> Notice:
    return Notice(
        event=Event(str(kept["event"])),
        payment_id=str(kept["payment_id"]),
        method=str(kept["method"]),
        reference=str(kept["reference"]),
        amount=int(kept["amount"]),
        currency=str(kept["currency"]),
        at=datetime.fromisoformat(str(kept["at"])),
    )
