"""Domain errors of identity. The reasons are those of sampan.identity.v1.IdentityErrorReason."""

from __future__ import annotations

from services.mesh.errors import (
    AlreadyExists,
    InvalidArgument,
    PermissionDenied,
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

    def __init__(self) -> None:
        super().__init__(violations=(Violation("password", "password.common", "is too common"),))


class PhoneInvalid(InvalidArgument):
    reason = "PHONE_INVALID"
    domain = DOMAIN
    detail = "this phone number cannot exist"

    def __init__(self) -> None:
        message = "is not a phone number in E.164, such as +66812345678"
        super().__init__(violations=(Violation("phone", "phone.e164", message),))
