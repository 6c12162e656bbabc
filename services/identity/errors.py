"""Domain errors of identity. The reasons are those of sampan.identity.v1.IdentityErrorReason."""

from __future__ import annotations

from services.mesh.errors import (
    AlreadyExists,
    InvalidArgument,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
    Violation,
)

DOMAIN = "sampan.identity"


class UsernameTaken(AlreadyExists):
    reason = "USERNAME_TAKEN"
    domain = DOMAIN
    detail = "this user name is taken: choose another"


class InvalidCredentials(Unauthenticated):
    reason = "INVALID_CREDENTIALS"
    domain = DOMAIN
    detail = "the name or the password is wrong"


class AccountSuspended(PermissionDenied):
    reason = "ACCOUNT_SUSPENDED"
    domain = DOMAIN
    detail = "the account is suspended"


class PasswordTooCommon(InvalidArgument):
    reason = "PASSWORD_TOO_COMMON"
    domain = DOMAIN
    detail = "this password is one of the first that attackers try: choose another"

    def __init__(self, field: str = "password") -> None:
        super().__init__(violations=(Violation(field, "password.common", "is too common"),))


class PhoneInvalid(InvalidArgument):
    reason = "PHONE_INVALID"
    domain = DOMAIN
    detail = "this phone number cannot exist"

    def __init__(self, field: str = "phone") -> None:
        message = "is not a phone number in E.164, such as +66812345678"
        super().__init__(violations=(Violation(field, "phone.e164", message),))


class EmailInvalid(InvalidArgument):
    reason = "EMAIL_INVALID"
    domain = DOMAIN
    detail = "this e-mail address cannot exist"

    def __init__(self, field: str = "email") -> None:
        super().__init__(violations=(Violation(field, "email", "is not an e-mail address"),))


class NewPasswordRequired(InvalidArgument):
    reason = "NEW_PASSWORD_REQUIRED"
    domain = DOMAIN
    detail = "send the new password along with the code"

    def __init__(self) -> None:
        message = "is needed to reset a password"
        super().__init__(violations=(Violation("new_password", "required", message),))


class CodeWrong(Unauthenticated):
    reason = "CODE_WRONG"
    domain = DOMAIN
    detail = "the code is wrong"


class CodeSpent(Unauthenticated):
    reason = "CODE_SPENT"
    domain = DOMAIN
    detail = "the code cannot be used any more: ask for another"


class CodesExhausted(RateLimited):
    reason = "CODES_EXHAUSTED"
    domain = DOMAIN

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__(seconds=seconds)
        self.detail = "too many codes were sent: try again tomorrow"


class RefreshTokenInvalid(Unauthenticated):
    reason = "REFRESH_TOKEN_INVALID"
    domain = DOMAIN
    detail = "the refresh token is not valid: sign in again"


class RefreshTokenReused(Unauthenticated):
    reason = "REFRESH_TOKEN_REUSED"
    domain = DOMAIN
    detail = "the refresh token was used before: sign in again"


class SessionEnded(Unauthenticated):
    reason = "SESSION_ENDED"
    domain = DOMAIN
    detail = "the session has ended: sign in again"
