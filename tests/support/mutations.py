"""One prepared request for each RPC that changes something, and how its effects are counted."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Awaitable, Callable

from sampan.identity.v1 import identity_internal_service_pb2 as operating
from sampan.identity.v1 import identity_service_pb2 as pb
from sampan.notification.v1 import notification_internal_service_pb2 as notifying
from sampan.presence.v1 import presence_service_pb2 as presences
from sampan.profile.v1 import profile_service_pb2 as profiles
from tests.support.mutation import Mutation, World, sender
from tests.support.mutations_bills import BILLS
from tests.support.mutations_messaging import MESSAGING
from tests.support.mutations_payment import PAYMENT
from tests.support.mutations_workspace import WORKSPACE

PASSWORD = "a good password"

ACCOUNTS = "(SELECT count(*) FROM accounts)"
SESSIONS = "(SELECT count(*) FROM sessions)"
ENDED = "(SELECT count(*) FROM revocations)"
ROTATIONS = "(SELECT sum(generation - 1) FROM sessions)"
TRIES = "(SELECT sum(tries) FROM challenges)"
CHALLENGES = "(SELECT count(*) FROM challenges)"
PROFILES = "(SELECT count(*) FROM profiles)"
WELL_KNOWN = "(SELECT count(*) FROM accounts WHERE kyc_tier = 3)"
SUSPENDED = "(SELECT count(*) FROM accounts WHERE status = 'suspended')"
ADMINS = "(SELECT count(*) FROM accounts WHERE 'admin' = ANY (roles))"
KEYS = "(SELECT count(*) FROM signing_keys)"
DELIVERIES = "(SELECT count(*) FROM deliveries)"
PENDING = "(SELECT count(*) FROM deliveries WHERE status = 'pending')"
HIDDEN = "(SELECT count(*) FROM preferences WHERE last_seen_hidden)"
CHANGES = "(SELECT count(DISTINCT (id, updated_at)) FROM profiles WHERE updated_at > created_at)"


def name() -> str:
    return "u" + secrets.token_hex(8)


def phone() -> str:
    return "+6681" + str(secrets.randbelow(10**7)).zfill(7)


def new_id() -> str:
    return str(uuid.uuid4())


def email() -> str:
    return f"{secrets.token_hex(6)}@example.com"


async def registered(world: World, **more: str) -> pb.RegisterResponse:
    """Somebody new."""
    made: pb.RegisterResponse = await world.identity.Register(
        pb.RegisterRequest(username=name(), password=PASSWORD, **more)
    )
    return made


async def signed_in(world: World, person: pb.RegisterResponse) -> pb.LoginResponse:
    """One more session of theirs."""
    done: pb.LoginResponse = await world.identity.Login(
        pb.LoginRequest(username=person.username, password=PASSWORD)
    )
    return done


async def session_of(world: World, token: str) -> str:
    """The session of a token."""
    metadata = [("authorization", f"Bearer {token}")]
    answer = await world.identity.ListSessions(pb.ListSessionsRequest(), metadata=metadata)
    return next(one.id for one in answer.sessions if one.current)


async def register(world: World) -> Mutation:
    request = pb.RegisterRequest(username=name(), password=PASSWORD, email=email(), phone=phone())
    other = pb.RegisterRequest()
    other.CopyFrom(request)
    other.password += "!"
    method = world.identity.Register
    effects = {ACCOUNTS: 1, SESSIONS: 1}
    return Mutation(sender(method, request), world.identity_owner, effects, sender(method, other))


async def register_with_email(world: World) -> Mutation:
    method, one, other = (
        world.identity.RegisterWithEmail,
        pb.RegisterWithEmailRequest(email=email(), password=PASSWORD),
        pb.RegisterWithEmailRequest(email=email(), password=PASSWORD),
    )
    effects = {ACCOUNTS: 1, SESSIONS: 1}
    return Mutation(sender(method, one), world.identity_owner, effects, sender(method, other))


async def register_with_phone(world: World) -> Mutation:
    method, one, other = (
        world.identity.RegisterWithPhone,
        pb.RegisterWithPhoneRequest(phone=phone(), password=PASSWORD),
        pb.RegisterWithPhoneRequest(phone=phone(), password=PASSWORD),
    )
    effects = {ACCOUNTS: 1, SESSIONS: 1}
    return Mutation(sender(method, one), world.identity_owner, effects, sender(method, other))


async def login(world: World) -> Mutation:
    one, other = [
        pb.LoginRequest(username=(await registered(world)).username, password=PASSWORD) for _ in range(2)
    ]
    method = world.identity.Login
    return Mutation(sender(method, one), world.identity_owner, {SESSIONS: 1}, sender(method, other))


async def login_with_email(world: World) -> Mutation:
    one, other = [
        pb.LoginWithEmailRequest(email=(await registered(world, email=email())).user.email, password=PASSWORD)
        for _ in range(2)
    ]
    method = world.identity.LoginWithEmail
    return Mutation(sender(method, one), world.identity_owner, {SESSIONS: 1}, sender(method, other))


async def login_with_phone(world: World) -> Mutation:
    one, other = [
        pb.LoginWithPhoneRequest(phone=(await registered(world, phone=phone())).user.phone, password=PASSWORD)
        for _ in range(2)
    ]
    method = world.identity.LoginWithPhone
    return Mutation(sender(method, one), world.identity_owner, {SESSIONS: 1}, sender(method, other))


async def send_otp(world: World) -> Mutation:
    to, method = phone(), world.identity.SendOtp

    async def messages() -> int:
        return len(await world.mailbox.all(to))

    return Mutation(
        sender(method, pb.SendOtpRequest(identifier=to, type="phone")),
        world.identity_owner,
        {CHALLENGES: 1},
        sender(method, pb.SendOtpRequest(identifier=to, type="phone", purpose="reset")),
        messages=messages,
    )


async def verify_otp(world: World) -> Mutation:
    to, method = phone(), world.identity.VerifyOtp
    sent = await world.identity.SendOtp(pb.SendOtpRequest(identifier=to, type="phone"))
    code = await world.mailbox.code(to)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    return Mutation(
        sender(method, pb.VerifyOtpRequest(session_id=sent.session_id, code=code)),
        world.identity_owner,
        {ACCOUNTS: 1, SESSIONS: 1, TRIES: 1},
        sender(method, pb.VerifyOtpRequest(session_id=sent.session_id, code=wrong)),
    )


async def verify_otp_to_reset(world: World) -> Mutation:
    person = await registered(world, phone=phone())
    to, method = person.user.phone, world.identity.VerifyOtp
    sent = await world.identity.SendOtp(pb.SendOtpRequest(identifier=to, type="phone", purpose="reset"))
    request = pb.VerifyOtpRequest(
        session_id=sent.session_id, code=await world.mailbox.code(to), new_password="another good password"
    )
    other = pb.VerifyOtpRequest()
    other.CopyFrom(request)
    other.new_password += "!"
    effects = {SESSIONS: 1, TRIES: 1, ENDED: 1}
    return Mutation(sender(method, request), world.identity_owner, effects, sender(method, other))


async def refresh_token(world: World) -> Mutation:
    person, method = await registered(world), world.identity.RefreshToken
    request = pb.RefreshTokenRequest(refresh_token=person.refresh_token)
    return Mutation(sender(method, request), world.identity_owner, {ROTATIONS: 1})


async def logout(world: World) -> Mutation:
    person, somebody, method = await registered(world), await registered(world), world.identity.Logout
    second = await signed_in(world, person)
    request = pb.LogoutRequest()
    return Mutation(
        sender(method, request, person.access_token),
        world.identity_owner,
        {ENDED: 1},
        sender(method, request, second.access_token),
        sender(method, request, somebody.access_token),
    )


async def delete_session(world: World) -> Mutation:
    person, somebody, method = await registered(world), await registered(world), world.identity.DeleteSession
    ids = [await session_of(world, (await signed_in(world, person)).access_token) for _ in range(2)]
    of_somebody = await session_of(world, (await signed_in(world, somebody)).access_token)
    return Mutation(
        sender(method, pb.DeleteSessionRequest(id=ids[0]), person.access_token),
        world.identity_owner,
        {ENDED: 1},
        sender(method, pb.DeleteSessionRequest(id=ids[1]), person.access_token),
        sender(method, pb.DeleteSessionRequest(id=of_somebody), somebody.access_token),
    )


async def change_password(world: World) -> Mutation:
    person, somebody = await registered(world), await registered(world)
    method = world.identity.ChangePassword
    await signed_in(world, person)
    request = pb.ChangePasswordRequest(old_password=PASSWORD, new_password="another good password")
    other = pb.ChangePasswordRequest(old_password=PASSWORD, new_password="yet another password")
    return Mutation(
        sender(method, request, person.access_token),
        world.identity_owner,
        {ENDED: 1},
        sender(method, other, person.access_token),
        sender(method, request, somebody.access_token),
    )


async def create_profile(world: World) -> Mutation:
    method, token, elsewhere = world.profile.CreateProfile, world.minter.token(), world.minter.token()
    request = profiles.CreateProfileRequest(display_name="A", bank_account_number="12345")
    other = profiles.CreateProfileRequest(display_name="A", bank_account_number="12346")
    return Mutation(
        sender(method, request, token),
        world.profile_owner,
        {PROFILES: 1},
        sender(method, other, token),
        sender(method, request, elsewhere),
    )


async def _with_profile(world: World) -> tuple[str, str]:
    """A token and the profile of its owner."""
    token = world.minter.token()
    made = await world.profile.CreateProfile(
        profiles.CreateProfileRequest(display_name="A"), metadata=[("authorization", f"Bearer {token}")]
    )
    return token, made.id


async def update_profile(world: World) -> Mutation:
    (token, one), (elsewhere, another) = await _with_profile(world), await _with_profile(world)
    method = world.profile.UpdateProfile
    return Mutation(
        sender(method, profiles.UpdateProfileRequest(id=one, bio="B"), token),
        world.profile_owner,
        {CHANGES: 1},
        sender(method, profiles.UpdateProfileRequest(id=one, bio=""), token),
        sender(method, profiles.UpdateProfileRequest(id=another, bio="B"), elsewhere),
    )


async def delete_profile(world: World) -> Mutation:
    (token, one), (elsewhere, another) = await _with_profile(world), await _with_profile(world)
    method = world.profile.DeleteProfile
    return Mutation(
        sender(method, profiles.DeleteProfileRequest(id=one), token),
        world.profile_owner,
        {PROFILES: -1},
        sender(method, profiles.DeleteProfileRequest(id=another), token),
        sender(method, profiles.DeleteProfileRequest(id=another), elsewhere),
    )


async def set_role(world: World) -> Mutation:
    person, method = await registered(world), world.operating.SetRole
    return Mutation(
        sender(method, operating.SetRoleRequest(user=person.username, role="admin", granted=True)),
        world.identity_owner,
        {ADMINS: 1, ENDED: 1},
        sender(method, operating.SetRoleRequest(user=person.username, role="admin", granted=False)),
    )


async def set_kyc_tier(world: World) -> Mutation:
    person, method = await registered(world), world.operating.SetKycTier
    return Mutation(
        sender(method, operating.SetKycTierRequest(user=person.username, kyc_tier=3)),
        world.identity_owner,
        {WELL_KNOWN: 1},
        sender(method, operating.SetKycTierRequest(user=person.username, kyc_tier=2)),
    )


async def set_status(world: World) -> Mutation:
    person, method = await registered(world), world.operating.SetStatus
    request = operating.SetStatusRequest(user=person.username, status="suspended", end_sessions=True)
    return Mutation(
        sender(method, request),
        world.identity_owner,
        {SUSPENDED: 1, ENDED: 1},
        sender(method, operating.SetStatusRequest(user=person.username, status="active")),
    )


async def rotate_keys(world: World) -> Mutation:
    """No input but the id, so no other."""
    send = sender(world.operating.RotateKeys, operating.RotateKeysRequest())
    return Mutation(send, world.identity_owner, {KEYS: 1})


async def deliver(world: World) -> Mutation:
    method = world.delivering.Deliver
    return Mutation(
        sender(method, notifying.DeliverRequest(channel="sms", to=phone(), template="no_account")),
        world.notification_owner,
        {DELIVERIES: 1},
        sender(method, notifying.DeliverRequest(channel="sms", to=phone(), template="no_account")),
    )


async def replay_dead(world: World) -> Mutation:
    ids = [await _dead_letter(world) for _ in range(2)]
    method = world.notifying.ReplayDead
    return Mutation(
        sender(method, notifying.ReplayDeadRequest(id=ids[0])),
        world.notification_owner,
        {PENDING: 1},
        sender(method, notifying.ReplayDeadRequest(id=ids[1])),
    )


async def _dead_letter(world: World) -> str:
    """A message of the outbox, as if a provider had refused it."""
    request = notifying.DeliverRequest(channel="sms", to=phone(), template="no_account", request_id=new_id())
    made: notifying.DeliverResponse = await world.delivering.Deliver(request)
    dead = "UPDATE deliveries SET status = 'dead' WHERE id = $1"
    await world.notification_owner.execute(dead, uuid.UUID(made.id))
    return made.id


async def update_preferences(world: World) -> Mutation:
    method, token, elsewhere = world.presence.UpdatePreferences, world.minter.token(), world.minter.token()
    request = presences.UpdatePreferencesRequest(last_seen_hidden=True)
    other = presences.UpdatePreferencesRequest(last_seen_hidden=False)
    return Mutation(
        sender(method, request, token),
        world.presence_owner,
        {HIDDEN: 1},
        sender(method, other, token),
        sender(method, request, elsewhere),
    )


# By service and method; what stands after a space tells two of one method apart.
MUTATIONS: dict[str, Callable[[World], Awaitable[Mutation]]] = {
    "IdentityService/Register": register,
    "IdentityService/RegisterWithEmail": register_with_email,
    "IdentityService/RegisterWithPhone": register_with_phone,
    "IdentityService/Login": login,
    "IdentityService/LoginWithEmail": login_with_email,
    "IdentityService/LoginWithPhone": login_with_phone,
    "IdentityService/SendOtp": send_otp,
    "IdentityService/VerifyOtp": verify_otp,
    "IdentityService/VerifyOtp reset": verify_otp_to_reset,
    "IdentityService/RefreshToken": refresh_token,
    "IdentityService/Logout": logout,
    "IdentityService/DeleteSession": delete_session,
    "IdentityService/ChangePassword": change_password,
    "ProfileService/CreateProfile": create_profile,
    "ProfileService/UpdateProfile": update_profile,
    "ProfileService/DeleteProfile": delete_profile,
    "IdentityInternalService/SetRole": set_role,
    "IdentityInternalService/SetKycTier": set_kyc_tier,
    "IdentityInternalService/SetStatus": set_status,
    "IdentityInternalService/RotateKeys": rotate_keys,
    "NotificationInternalService/Deliver": deliver,
    "NotificationInternalService/ReplayDead": replay_dead,
    "PresenceService/UpdatePreferences": update_preferences,
    **MESSAGING,
    **WORKSPACE,
    **PAYMENT,
    **BILLS,
}
# What has no claim in a transaction: SetPresence changes nothing in a database, a notice is known by its
# `client_message_id`, and CreateTransfers answers for each transfer. Their effects are counted by
# test_presence.py, test_messaging_people.py and test_payment_transfers.py.
ELSEWHERE = (
    "PresenceService/SetPresence",
    "MessagingInternalService/PostNotice",
    "PaymentInternalService/CreateTransfers",
)

# Their statement and its commit are one; test_messaging_faults.py and test_payment_faults.py cut those.
ONE_ROUND_TRIP = ("MessagingService/SendMessage", "PaymentService/SendMoney")

# Those of people who are signed in, so that their ids are theirs.
SIGNED_IN = (
    "IdentityService/Logout",
    "IdentityService/DeleteSession",
    "IdentityService/ChangePassword",
    "ProfileService/CreateProfile",
    "ProfileService/UpdateProfile",
    "ProfileService/DeleteProfile",
    "PresenceService/UpdatePreferences",
    *(name for name in MESSAGING if "Internal" not in name),
    *WORKSPACE,
    *(name for name in PAYMENT if "Internal" not in name),
    *BILLS,
)
# Without another input: what may be repeated is said by the token or there is nothing to say but the id.
NO_OTHER = (
    "IdentityService/RefreshToken",
    "IdentityInternalService/RotateKeys",
    "PaymentService/PayBills",
)
