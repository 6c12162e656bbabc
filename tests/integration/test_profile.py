"""Profile on its real database, behind the production chain."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from sampan.profile.v1 import profile_service_pb2 as pb
from sampan.profile.v1.profile_pb2 import Profile
from sampan.profile.v1.profile_service_pb2_grpc import ProfileServiceStub
from services.mesh.app import App
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support.databases import Clone, profile_app
from tests.support.errors import reason
from tests.support.mesh import Minter, channel_as, serving

BANK = {
    "bank_account_name": "Canary Bank of Bangkok",
    "bank_account_holder": "Somchai Canary",
    "bank_account_number": "CANARY-123-456789",
}
TABLES = ("profiles", "person_keys")


@dataclass(frozen=True)
class Caller:
    """Somebody with a token. Attributes are the methods of the service."""

    stub: Any
    id: str
    token: str

    def __getattr__(self, method: str) -> Any:
        def call(request: Any) -> Awaitable[Any]:
            return getattr(self.stub, method)(request, metadata=[("authorization", f"Bearer {self.token}")])  # type: ignore[no-any-return]

        return call

    async def create(self, **fields: str) -> Profile:
        """Makes their profile."""
        made: Profile = await self.CreateProfile(pb.CreateProfileRequest(**{"display_name": "A", **fields}))
        return made

    async def own(self) -> Profile:
        """Their profile as they see it."""
        found: Profile = await self.GetOwnProfile(pb.GetOwnProfileRequest())
        return found


@dataclass(frozen=True)
class People:
    """Makes callers."""

    stub: ProfileServiceStub
    minter: Minter

    def new(self, **claims: Any) -> Caller:
        """Somebody new."""
        user_id = str(uuid.uuid4())
        return Caller(self.stub, user_id, self.minter.token(user_id, **claims))

    def admin(self) -> Caller:
        """An administrator."""
        return self.new(roles=["admin"])


@pytest.fixture
async def people(profile: tuple[App, str], pki: Pki) -> AsyncIterator[People]:
    async with channel_as("edge", profile[1], "profile", pki) as channel:
        yield People(ProfileServiceStub(channel), Minter.of(profile[0]))


@pytest.fixture
async def owner(profile_database: Clone) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(profile_database.owner_url)
    yield connection
    await connection.close()


async def dump(connection: asyncpg.Connection) -> bytes:
    """All that lies in the tables, texts and bytes."""
    found = []
    for table in TABLES:
        for row in await connection.fetch(f"SELECT * FROM {table}"):  # noqa: S608
            found += [value if isinstance(value, bytes) else str(value).encode() for value in row.values()]
    return b"\n".join(found)


def bank_of(profile: Profile) -> dict[str, str]:
    """Its bank details, those that are there."""
    return {field: getattr(profile, field) for field in BANK if profile.HasField(field)}  # type: ignore[arg-type]


async def test_fifty_creations_by_one_person_make_one_profile(
    people: People, owner: asyncpg.Connection
) -> None:
    person = people.new()
    done = await asyncio.gather(*(reason(person.create(**BANK)) for _ in range(50)))
    assert sorted(done) == [""] + ["PROFILE_EXISTS"] * 49
    for table in TABLES:
        count = f"SELECT count(*) FROM {table} WHERE user_id = $1"  # noqa: S608
        assert await owner.fetchval(count, uuid.UUID(person.id)) == 1
    assert bank_of(await person.own()) == BANK


async def test_the_same_request_again_is_answered_with_the_same_profile(people: People) -> None:
    person, request_id = people.new(), str(uuid.uuid4())
    made = await asyncio.gather(*(person.create(**BANK, request_id=request_id) for _ in range(20)))
    assert len({profile.SerializeToString(deterministic=True) for profile in made}) == 1
    assert await reason(person.create(bio="other input", request_id=request_id)) == "REQUEST_ID_REUSED"
    assert await reason(person.create(**BANK, request_id=str(uuid.uuid4()))) == "PROFILE_EXISTS"
    assert await reason(people.new().create(**BANK, request_id=request_id)) == ""


async def test_bank_details_lie_encrypted(people: People, owner: asyncpg.Connection) -> None:
    person = people.new()
    await person.create(bio="a public canary", **BANK, request_id=str(uuid.uuid4()))
    found = await dump(owner)
    assert b"a public canary" in found
    for value in BANK.values():
        assert value.encode() not in found


async def test_destroying_a_key_makes_bank_details_unreadable(
    people: People, owner: asyncpg.Connection
) -> None:
    person = people.new()
    made = await person.create(bio="stays", **BANK)
    await owner.execute("DELETE FROM person_keys WHERE user_id = $1", uuid.UUID(person.id))
    shown = await person.own()
    assert (shown.bio, bank_of(shown)) == ("stays", dict.fromkeys(BANK, ""))
    number = {"bank_account_number": "NEW-1234"}
    changed = await person.UpdateProfile(pb.UpdateProfileRequest(id=made.id, **number))
    assert bank_of(changed) == dict.fromkeys(BANK, "") | number
    assert bank_of(await person.own()) == dict.fromkeys(BANK, "") | number


@pytest.mark.parametrize("column", ["bank_account_holder", "bank_account_number"])
async def test_a_sealed_value_does_not_fit_another_place(
    people: People, owner: asyncpg.Connection, column: str
) -> None:
    person, other = people.new(), people.new()
    made, _ = await person.create(**BANK), await other.create(**BANK)
    if column == "bank_account_holder":
        moved = "UPDATE profiles SET bank_account_number = bank_account_holder WHERE id = $1"
        await owner.execute(moved, uuid.UUID(made.id))
    else:
        moved = (
            "UPDATE profiles SET bank_account_number ="
            " (SELECT bank_account_number FROM profiles WHERE user_id = $2) WHERE id = $1"
        )
        await owner.execute(moved, uuid.UUID(made.id), uuid.UUID(other.id))
    assert await reason(person.own()) == "INTERNAL"
    assert await reason(other.GetProfile(pb.GetProfileRequest(id=made.id))) == ""


async def test_deleting_a_profile_destroys_its_key_and_makes_room_for_another(
    people: People, owner: asyncpg.Connection
) -> None:
    person = people.new()
    first = await person.create(**BANK)
    await person.DeleteProfile(pb.DeleteProfileRequest(id=first.id))
    for table in TABLES:
        count = f"SELECT count(*) FROM {table} WHERE user_id = $1"  # noqa: S608
        assert await owner.fetchval(count, uuid.UUID(person.id)) == 0
    assert await reason(person.DeleteProfile(pb.DeleteProfileRequest(id=first.id))) == "NOT_FOUND"
    second = await person.create()
    assert second.id != first.id
    assert bank_of(second) == dict.fromkeys(BANK, "")


async def test_changes_of_different_fields_at_once_all_stay(people: People) -> None:
    person = people.new()
    made = await person.create()
    changes: list[dict[str, str]] = [{name: value} for name, value in BANK.items()]
    changes += [{"bio": "x"}, {"avatar_url": "https://example.com/a.png"}, {"display_name": "B"}]
    await asyncio.gather(
        *(person.UpdateProfile(pb.UpdateProfileRequest(id=made.id, **change)) for change in changes)
    )
    found = await person.own()
    assert bank_of(found) == BANK
    assert (found.bio, found.avatar_url, found.display_name) == ("x", "https://example.com/a.png", "B")


async def test_an_empty_change_changes_nothing(people: People) -> None:
    person = people.new()
    made = await person.create(**BANK)
    assert await person.UpdateProfile(pb.UpdateProfileRequest(id=made.id)) == made
    changed = await person.UpdateProfile(pb.UpdateProfileRequest(id=made.id, bio="new"))
    assert changed.updated_at.ToDatetime() > made.updated_at.ToDatetime()
    assert changed.created_at == made.created_at


async def walk(admin: Caller, limit: int, between: Any) -> list[str]:
    """Ids on all pages; `between` runs after each."""
    ids: list[str] = []
    token = ""
    while True:
        page = await admin.ListProfiles(pb.ListProfilesRequest(limit=limit, page_token=token))
        ids += [profile.id for profile in page.profiles]
        assert page.has_more == bool(page.next_page_token)
        if not page.has_more:
            return ids
        assert len(page.profiles) == limit
        token = page.next_page_token
        await between(ids)


async def test_a_walk_has_no_gaps_and_no_repeats_while_profiles_come_and_go(
    people: People, owner: asyncpg.Connection
) -> None:
    callers = [people.new() for _ in range(25)]
    made = {(await one.create()).id: one for one in callers}
    before = [str(row["id"]) for row in await owner.fetch("SELECT id FROM profiles ORDER BY id DESC")]

    async def between(ids: list[str]) -> None:
        await people.new().create()
        # The one that the next page begins after goes away.
        if ids[-1] in made:
            await made[ids[-1]].DeleteProfile(pb.DeleteProfileRequest(id=ids[-1]))

    assert await walk(people.admin(), 4, between) == before


async def test_a_page_has_ten_profiles_when_nobody_says_otherwise_and_a_hundred_at_most(
    people: People, owner: asyncpg.Connection
) -> None:
    await asyncio.gather(*(people.new().create() for _ in range(101)))
    admin = people.admin()
    page = await admin.ListProfiles(pb.ListProfilesRequest())
    assert (len(page.profiles), page.has_more) == (10, True)
    assert page.total == await owner.fetchval("SELECT count(*) FROM profiles")
    assert all(not bank_of(one) and not one.HasField("updated_at") for one in page.profiles)
    assert len((await admin.ListProfiles(pb.ListProfilesRequest(limit=100))).profiles) == 100
    for limit in (-1, 101):
        assert await reason(admin.ListProfiles(pb.ListProfilesRequest(limit=limit))) == "INVALID_ARGUMENT"
    assert await reason(admin.ListProfiles(pb.ListProfilesRequest(page_token="x"))) == "INVALID_ARGUMENT"


async def test_keys_and_ended_sessions_come_from_identity(
    identity: tuple[App, str], profile_database: Clone, pki: Pki
) -> None:
    mesh = MeshSettings(peers={"identity": [identity[1]]})
    app = await profile_app(profile_database, pki, mesh)
    async with (
        serving(app, mesh) as address,
        channel_as("edge", address, "profile", pki) as channel,
    ):
        stub = ProfileServiceStub(channel)
        known, unknown = (People(stub, minter).new() for minter in (Minter.of(identity[0]), Minter()))
        await known.create()
        assert await reason(unknown.create()) == "TOKEN_INVALID"


async def test_the_running_role_may_do_no_more_than_it_needs(profile_database: Clone) -> None:
    connection = await asyncpg.connect(profile_database.runtime_url)
    try:
        for statement in (
            "DROP TABLE profiles",
            "TRUNCATE profiles CASCADE",
            "CREATE TABLE more (id int)",
            "UPDATE profiles SET user_id = id",
            "UPDATE profiles SET created_at = now()",
            "UPDATE person_keys SET wrapped = ''",
            "UPDATE alembic_version SET version_num = ''",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_text_with_nul_is_invalid(people: People) -> None:
    for field in ("display_name", "bio", "bank_account_name", "bank_account_holder", "bank_account_number"):
        assert await reason(people.new().create(**{field: "abcd\0e"})) == "INVALID_ARGUMENT", field
