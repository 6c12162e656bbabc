"""How often each process runs is a setting, and everybody is told of all replicas."""

from __future__ import annotations

import pytest

from services.stack.errors import StackError
from services.stack.service_parts import chosen, peers, port_names
from services.stack.topology import PROCESSES, REPLICAS, processes


def test_without_the_setting_every_process_runs_once() -> None:
    assert processes({}) == PROCESSES
    assert processes({REPLICAS: ""}) == PROCESSES
    assert [process.parts for process in PROCESSES] == [(process.name,) for process in PROCESSES]


def test_replicas_have_names_ports_and_are_known_to_their_peers() -> None:
    found = chosen({REPLICAS: '{"people": 2}'})
    people = next(process for process in found if process.name == "people")
    assert people.parts == ("people-1", "people-2")
    names = port_names(found)
    assert {"identity", "identity/1", "notification", "notification/1"} <= set(names)
    ports = {name: 10_000 + number for number, name in enumerate(names)}
    assert len(peers(ports, found)["identity"]) == 2
    assert len(peers(ports, found)["web"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "2",
        '{"nobody": 2}',
        '{"people": 0}',
        '{"people": 33}',
        '{"people": "2"}',
        '{"people": true}',
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(StackError) as raised:
        chosen({REPLICAS: text})
    assert REPLICAS in raised.value.reason
