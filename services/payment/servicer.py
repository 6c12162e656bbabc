"""Implements sampan.payment.v1.PaymentService: its methods by subject."""

from __future__ import annotations

from services.payment.servicer_parts import Parts


class PaymentServicer(Parts):
    """All methods; each is that of the part which has it."""
