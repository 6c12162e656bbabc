"""Domain errors of notification. The reasons are those of sampan.notification.v1.NotificationErrorReason."""

from __future__ import annotations

from services.mesh.errors import InvalidArgument, Violation

DOMAIN = "sampan.notification"


class RecipientInvalid(InvalidArgument):
    reason = "RECIPIENT_INVALID"
    domain = DOMAIN
    detail = "this is no address of the channel"

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(violations=(Violation("to", rule, message),))


class ParameterInvalid(InvalidArgument):
    """`unfit` maps names of parameters to what they must be."""

    reason = "PARAMETER_INVALID"
    domain = DOMAIN
    detail = "the template needs other parameters: see errors"

    def __init__(self, unfit: dict[str, str]) -> None:
        super().__init__(
            violations=tuple(
                Violation(f"parameters[{name}]", "template.parameter", f"is needed by the template: {form}")
                for name, form in unfit.items()
            )
        )
