"""Who is there and who may see it: presence in two processes on real servers, behind the production chain."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.stack.pki import Pki
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.presence import Heard, Place, Replica, listening, place, servers
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def here(
    presence_database: Clone, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    async with (
        servers(tmp_path_factory.mktemp("presence")) as (redis, nats),
        place(pki, presence_database, redis, nats) as found,
    ):
        yield found


@pytest.fixture
async def heard(here: Place) -> AsyncIterator[Heard]:
    async with listening(here.nats) as found:
        yield found


@pytest.fixture
def one(here: Place) -> Replica:
    return here.replicas[0]


@pytest.fixture
def other(here: Place) -> Replica:
    return here.replicas[1]


async def test_a_device_makes_its_person_online_at_every_process(
    here: Place, one: Replica, other: Replica, heard: Heard
) -> None:
    somchai, mali = here.friends()
    assert await mali.status(somchai.id) == "offline"
    await one.renew((somchai.id, "phone"))
    for replica in (one, other):
        found = (await mali.at(replica).sees(somchai.id))[0]
        assert (found.status, found.HasField("last_seen")) == ("online", False)
    await until(lambda: heard.last(somchai.id), "online", within=20)


async def test_who_is_gone_is_offline_after_a_moment_and_last_seen_when_they_went(
    here: Place, one: Replica, heard: Heard
) -> None:
    somchai, mali = here.friends()
    await one.renew((somchai.id, "phone"))
    await until(lambda: heard.last(somchai.id), "online", within=20)
    await one.end((somchai.id, "phone"))
    assert await mali.status(somchai.id) == "online"
    await until(lambda: heard.last(somchai.id), "offline", within=20)
    found = (await mali.sees(somchai.id))[0]
    event = heard.events[-1]
    assert found.status == "offline"
    assert event.last_seen == found.last_seen
    assert heard.of(somchai.id) == ["online", "offline"]


async def test_who_is_back_in_time_was_never_gone(here: Place, one: Replica, heard: Heard) -> None:
    somchai, mali = here.friends()
    await one.renew((somchai.id, "phone"))
    await until(lambda: heard.last(somchai.id), "online", within=20)
    for _ in range(3):
        await one.end((somchai.id, "phone"))
        await one.renew((somchai.id, "phone"))
    # What is told of somebody else who went after them is told after what would be told of them.
    await one.renew((mali.id, "phone"))
    await until(lambda: heard.last(mali.id), "online", within=20)
    await one.end((mali.id, "phone"))
    await until(lambda: heard.last(mali.id), "offline", within=20)
    assert heard.of(somchai.id) == ["online"]


async def test_a_lease_that_is_not_renewed_runs_out_and_everybody_is_told_once(
    here: Place, one: Replica, other: Replica, heard: Heard
) -> None:
    # As when a process is killed: nobody says goodbye.
    people, stays, mali = [here.somebody() for _ in range(50)], here.somebody(), here.somebody()
    here.contacts.pairs |= {frozenset((mali.id, person.id)) for person in (*people, stays)}
    await one.renew(*((person.id, "phone") for person in people), process="killed", seconds=1)
    await other.renew((stays.id, "phone"), process="alive")

    async def gone() -> int:
        return sum(heard.of(person.id)[-1:] == ["offline"] for person in people)

    await until(gone, 50, within=20)
    assert {status for person in people for status in heard.of(person.id)} == {"online", "offline"}
    assert all(len(heard.of(person.id)) == 2 for person in people)
    assert heard.of(stays.id) == ["online"]
    assert await mali.status(stays.id) == "online"
    assert {found.status for found in await mali.sees(*(person.id for person in people))} == {"offline"}


async def test_the_most_awake_device_counts(here: Place, one: Replica, other: Replica, heard: Heard) -> None:
    somchai, mali = here.friends()
    await one.renew((somchai.id, "phone"), process="p")
    await other.renew((somchai.id, "tablet"), process="q")
    assert (await somchai.sets("away", "phone")).status == "online"
    assert (await somchai.sets("away", "tablet")).status == "away"
    found = (await mali.sees(somchai.id))[0]
    assert (found.status, found.HasField("last_seen")) == ("away", True)
    await until(lambda: heard.last(somchai.id), "away", within=20)
    # A renewal does not wake what is away, nor say that they were active.
    await one.renew((somchai.id, "phone"), process="p")
    assert (await mali.sees(somchai.id))[0] == found
    assert (await somchai.sets("online", "tablet")).status == "online"
    await until(lambda: heard.last(somchai.id), "online", within=20)
    await other.end((somchai.id, "tablet"), process="q")
    await until(lambda: heard.last(somchai.id), "away", within=20)


async def test_one_device_in_two_processes_is_there_until_both_have_lost_it(
    here: Place, one: Replica, other: Replica, heard: Heard
) -> None:
    somchai, mali = here.friends()
    await one.renew((somchai.id, "phone"), process="p")
    await other.renew((somchai.id, "phone"), process="q")
    await one.end((somchai.id, "phone"), process="p")
    await one.renew((mali.id, "phone"))
    await until(lambda: heard.last(mali.id), "online", within=20)
    await one.end((mali.id, "phone"))
    await until(lambda: heard.last(mali.id), "offline", within=20)
    assert await mali.status(somchai.id) == "online"
    await other.end((somchai.id, "phone"), process="q")
    await until(lambda: heard.last(somchai.id), "offline", within=20)


async def test_without_a_name_all_devices_are_meant(here: Place, one: Replica) -> None:
    somchai = here.somebody()
    await one.renew((somchai.id, "phone"), (somchai.id, "tablet"))
    assert (await somchai.sets("away")).status == "away"
    assert (await somchai.sets("online")).status == "online"


async def test_being_away_may_be_said_before_the_stream_is_heard_of_and_ends_with_it(
    here: Place, one: Replica, heard: Heard
) -> None:
    somchai = here.somebody()
    assert (await somchai.sets("away", "phone")).status == "offline"
    await one.renew((somchai.id, "phone"), seconds=1)
    assert await somchai.status(somchai.id) == "away"
    await until(lambda: heard.last(somchai.id), "offline", within=20)


async def test_strangers_see_nothing(here: Place, one: Replica) -> None:
    somchai, stranger = here.somebody(), here.somebody()
    await one.renew((somchai.id, "phone"))
    found, unknown = await stranger.sees(somchai.id, str(uuid.uuid4()))
    for shown in (found, unknown):
        assert (shown.status, shown.HasField("last_seen")) == ("offline", False)


async def test_answers_come_in_the_order_of_the_question_also_for_oneself_and_twice(
    here: Place, one: Replica
) -> None:
    somchai, mali = here.friends()
    await one.renew((somchai.id, "phone"))
    asked = [mali.id, somchai.id, somchai.id.upper(), mali.id]
    found = await somchai.sees(*asked)
    assert [shown.user_id for shown in found] == [mali.id, somchai.id, somchai.id, mali.id]
    assert [shown.status for shown in found] == ["offline", "online", "online", "offline"]
    assert await reason(somchai.sees()) == "INVALID_ARGUMENT"
    assert await reason(somchai.sees(*[mali.id] * 101)) == "INVALID_ARGUMENT"
    assert len(await somchai.sees(*[mali.id] * 100)) == 100


async def test_who_hides_when_they_were_last_seen_does_not_see_it_either(here: Place, one: Replica) -> None:
    somchai, mali, nok = here.friends(3)
    for person in (somchai, mali, nok):
        await one.renew((person.id, "phone"), seconds=1)
        await one.end((person.id, "phone"))

    async def gone() -> set[str]:
        return {found.status for found in await nok.sees(somchai.id, mali.id)}

    await until(gone, {"offline"}, within=20)
    assert (await nok.sees(somchai.id))[0].HasField("last_seen")
    await somchai.prefers(last_seen_hidden=True)
    assert not (await nok.sees(somchai.id))[0].HasField("last_seen")
    assert not (await somchai.sees(mali.id))[0].HasField("last_seen")
    assert (await nok.sees(mali.id))[0].HasField("last_seen")
    await somchai.prefers(last_seen_hidden=False)
    assert (await nok.sees(somchai.id))[0].HasField("last_seen")


async def test_the_invisible_look_offline_and_see_nobody_and_others_are_told_so(
    here: Place, one: Replica, heard: Heard
) -> None:
    somchai, mali = here.friends()
    await one.renew((somchai.id, "phone"), (mali.id, "phone"))
    await until(lambda: heard.last(somchai.id), "online", within=20)
    await somchai.prefers(invisible=True)
    assert [await mali.status(somchai.id), await somchai.status(mali.id)] == ["offline", "offline"]
    assert await somchai.status(somchai.id) == "online"
    await until(lambda: heard.last(somchai.id), "offline", within=20)
    assert not heard.events[-1].HasField("last_seen")
    # They come and go, and nobody is told.
    await one.end((somchai.id, "phone"))
    await until(lambda: somchai.status(somchai.id), "offline", within=20)
    await one.renew((somchai.id, "phone"))
    assert await somchai.status(somchai.id) == "online"
    assert heard.of(somchai.id) == ["online", "offline"]
    await somchai.prefers(invisible=False)
    assert await mali.status(somchai.id) == "online"
    await until(lambda: heard.last(somchai.id), "online", within=20)


async def test_a_change_of_preferences_counts_at_every_process_within_a_second(
    here: Place, other: Replica, one: Replica
) -> None:
    somchai, mali = here.friends()
    await one.renew((somchai.id, "phone"))
    away = mali.at(other)
    assert await away.status(somchai.id) == "online"
    for invisible, status in ((True, "offline"), (False, "online")):
        await somchai.prefers(invisible=invisible)
        # The bar is 1 s.
        assert await until(lambda: away.status(somchai.id), status, within=20) < 1.0


async def test_messaging_is_told_who_must_not_be_shown_others(
    here: Place, one: Replica, heard: Heard
) -> None:
    somchai, mali = here.friends()
    await somchai.prefers(last_seen_hidden=True)
    limited = await one.renew((somchai.id, "phone"), (mali.id, "phone"))
    assert [(who.user_id, who.last_seen_hidden, who.invisible) for who in limited] == [
        (somchai.id, True, False)
    ]
    await mali.prefers(invisible=True)

    async def told() -> list[tuple[str, bool, bool]]:
        return [(said.user_id, said.last_seen_hidden, said.invisible) for said in heard.preferences]

    await until(told, [(somchai.id, True, False), (mali.id, False, True)], within=20)


async def test_equal_requests_set_a_presence_once(here: Place, one: Replica) -> None:
    somchai, request_id = here.somebody(), str(uuid.uuid4())
    await one.renew((somchai.id, "phone"))
    answers = await asyncio.gather(*(somchai.sets("away", "phone", request_id) for _ in range(50)))
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
    await somchai.sets("online", "phone")
    # The retry that comes late does not undo what was said since.
    assert await somchai.sets("away", "phone", request_id.upper()) == answers[0]
    assert await somchai.status(somchai.id) == "online"
    assert await reason(somchai.sets("online", "phone", request_id)) == "REQUEST_ID_REUSED"
    assert await reason(here.somebody().sets("away", "phone", request_id)) == ""


async def test_only_messaging_may_say_who_is_there(here: Place) -> None:
    async with here.replica(internal_as="edge") as replica:
        somchai = (str(uuid.uuid4()), "phone")
        assert await reason(replica.renew(somchai)) == "CALLER_NOT_ALLOWED"
        assert await reason(replica.end(somchai)) == "CALLER_NOT_ALLOWED"


async def test_preferences_are_kept_and_what_is_left_out_stays(here: Place) -> None:
    somchai = here.somebody()
    for changes, wanted in (
        ({}, (False, False)),
        ({"last_seen_hidden": True}, (True, False)),
        ({"invisible": True}, (True, True)),
        ({"last_seen_hidden": False}, (False, True)),
    ):
        found = await somchai.prefers(**changes)
        assert (found.last_seen_hidden, found.invisible) == wanted


async def test_the_running_role_may_do_no_more_than_it_needs(presence_database: Clone) -> None:
    connection = await asyncpg.connect(presence_database.runtime_url)
    try:
        for statement in (
            "DROP TABLE preferences",
            "TRUNCATE preferences",
            "DELETE FROM preferences",
            "CREATE TABLE more (id int)",
            "UPDATE preferences SET user_id = user_id",
            "UPDATE alembic_version SET version_num = ''",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
