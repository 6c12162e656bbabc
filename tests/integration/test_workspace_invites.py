"""Invites of workspaces on a real database, behind the production chain."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from sampan.workspace.v1 import workspace_service_pb2 as pb
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.waiting import until
from tests.support.workspace import Caller, People, people_of


@pytest.fixture
async def people(workspace: tuple[App, str], pki: Pki) -> AsyncIterator[People]:
    async with people_of(*workspace, pki) as found:
        yield found


@pytest.fixture
async def owner_of_tables(workspace_database: Clone) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(workspace_database.owner_url)
    yield connection
    await connection.close()


async def seen(caller: Caller, workspace_id: str) -> pb.Workspace:
    found: pb.Workspace = await caller.GetWorkspace(pb.GetWorkspaceRequest(workspace_id=workspace_id))
    return found


async def test_an_invite_of_five_uses_lets_exactly_five_of_fifty_in(people: People) -> None:
    made, owner, _ = await people.in_workspace(0)
    code = (await owner.invite(made.id, uses=5)).code
    done = await asyncio.gather(*(reason(people.new().join(code)) for _ in range(50)))
    assert sorted(done) == [""] * 5 + ["INVITE_NOT_FOUND"] * 45
    assert len(await owner.members(made.id)) == 6
    assert (await seen(owner, made.id)).member_count == 6


async def test_who_is_in_it_stays_and_uses_nothing_up(people: People) -> None:
    made, owner, (member,) = await people.in_workspace(1)
    invite = await owner.invite(made.id, uses=2)
    for _ in range(3):
        assert (await member.join(invite.code)).role == "member"
    assert (await owner.join(invite.code)).role == "owner"
    (listed,) = (await owner.ListInvites(pb.ListInvitesRequest(workspace_id=made.id))).invites
    assert listed.uses_left == 2
    newcomer = people.new()
    for _ in range(5):
        await newcomer.join(invite.code)
    (listed,) = (await owner.ListInvites(pb.ListInvitesRequest(workspace_id=made.id))).invites
    assert listed.uses_left == 1


async def test_one_person_who_joins_many_times_at_once_is_in_it_once(people: People) -> None:
    made, owner, _ = await people.in_workspace(0)
    code, person = (await owner.invite(made.id, uses=20)).code, people.new()
    done = await asyncio.gather(*(reason(person.join(code)) for _ in range(20)))
    assert done == [""] * 20
    (listed,) = (await owner.ListInvites(pb.ListInvitesRequest(workspace_id=made.id))).invites
    assert listed.uses_left == 19


async def test_codes_that_ended_and_codes_that_never_were_look_alike(
    people: People, owner_of_tables: asyncpg.Connection
) -> None:
    made, owner, _ = await people.in_workspace(0)
    old, ended, spent = [await owner.invite(made.id) for _ in range(3)]
    await owner_of_tables.execute(
        "UPDATE invites SET expires_at = now() - interval '1 second' WHERE id = $1", uuid.UUID(old.id)
    )
    for _ in range(2):
        await owner.RevokeInvite(pb.RevokeInviteRequest(workspace_id=made.id, id=ended.id))
    await people.new().join(spent.code)
    for code in (old.code, ended.code, spent.code, "x" * 27, spent.code.upper()):
        assert await reason(people.new().join(code)) == "INVITE_NOT_FOUND"
    never = pb.RevokeInviteRequest(workspace_id=made.id, id=str(uuid.uuid4()))
    assert await reason(owner.RevokeInvite(never)) == "INVITE_NOT_FOUND"
    assert not (await owner.ListInvites(pb.ListInvitesRequest(workspace_id=made.id))).invites


async def test_a_code_is_shown_once_repeated_by_its_request_and_stored_nowhere(
    people: People, owner_of_tables: asyncpg.Connection
) -> None:
    made, owner, _ = await people.in_workspace(0)
    request_id = str(uuid.uuid4())
    done = await asyncio.gather(*(owner.invite(made.id, uses=3, request_id=request_id) for _ in range(20)))
    assert len({one.SerializeToString(deterministic=True) for one in done}) == 1
    code = done[0].code
    await people.new().join(code, request_id=str(uuid.uuid4()))
    again = await owner.invite(made.id, uses=3, request_id=request_id)
    assert (again.code, again.uses_left) == (code, 2)
    (listed,) = (await owner.ListInvites(pb.ListInvitesRequest(workspace_id=made.id))).invites
    assert (listed.id, listed.code) == (done[0].id, "")
    for table in ("invites", "idempotency", "outbox"):
        rows = await owner_of_tables.fetch(f"SELECT t::text AS said FROM {table} t")  # noqa: S608
        said = "".join(row["said"] for row in rows)
        assert code not in said
        assert code.encode().hex() not in said
    await owner.RevokeInvite(pb.RevokeInviteRequest(workspace_id=made.id, id=again.id))
    repeated = owner.invite(made.id, uses=3, request_id=request_id)
    assert await reason(repeated) == "INVITE_NOT_FOUND"


async def test_an_invite_works_once_and_for_three_days_when_nobody_says_otherwise(people: People) -> None:
    made, owner, _ = await people.in_workspace(0)
    invite = await owner.invite(made.id)
    assert invite.uses_left == 1
    life = invite.expires_at.ToDatetime() - invite.created_at.ToDatetime()
    assert life.total_seconds() == 72 * 3600
    for wrong in ({"uses": 1001}, {"uses": -1}, {"hours": 721}):
        assert await reason(owner.invite(made.id, **wrong)) == "INVALID_ARGUMENT"


async def test_old_invites_are_forgotten(
    people: People, owner_of_tables: asyncpg.Connection, workspace: tuple[App, str]
) -> None:
    made, owner, _ = await people.in_workspace(0)
    kept, gone = await owner.invite(made.id), await owner.invite(made.id)
    await owner_of_tables.execute(
        "UPDATE invites SET expires_at = now() - interval '8 days' WHERE id = $1", uuid.UUID(gone.id)
    )

    async def there() -> list[str]:
        rows = await owner_of_tables.fetch(
            "SELECT id FROM invites WHERE workspace_id = $1", uuid.UUID(made.id)
        )
        return [str(row["id"]) for row in rows]

    await until(there, [kept.id], within=20)
