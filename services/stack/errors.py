"""What stops the stack, told in words that a person can act on."""

from __future__ import annotations


class StackError(Exception):
    """A part that could not do its work: `part` names it, `reason` says why, `hint` what to do next."""

    def __init__(self, part: str, reason: str, hint: str = "") -> None:
        self.part = part
        self.reason = reason
        self.hint = hint
        super().__init__(f"{part}: {reason}" + (f"\n  {hint}" if hint else ""))
