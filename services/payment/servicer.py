"""Implements sampan.payment.v1.PaymentService: its methods by subject."""

from __future__ import annotations


class PaymentServicer:
    """All methods; each is that of the part which has it."""

    def __init__(self, *parts: object) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> object:
        for part in self._parts:
            if hasattr(part, name):
                return getattr(part, name)
        raise AttributeError(name)
