"""Ids are UUIDv7 and sort by time."""

from __future__ import annotations

from uuid import UUID

import pytest

from services.mesh.ids import read, uuid7


def test_ids_are_version_7_and_variant_rfc() -> None:
    made = [uuid7() for _ in range(200)]
    assert {one.version for one in made} == {7}
    assert {one.variant for one in made} == {"specified in RFC 4122"}
    assert len(set(made)) == 200


def test_ids_sort_by_the_millisecond_they_were_made_in() -> None:
    made = [uuid7() for _ in range(200)]
    moments = [one.int >> 80 for one in made]
    assert moments == sorted(moments)


def test_ids_that_were_read_are_those_of_the_standard_library() -> None:
    made = uuid7()
    assert read(str(made)) == UUID(str(made)) == made
    assert isinstance(read(str(made)), UUID)
    assert hash(read(str(made))) == hash(UUID(str(made)))
    assert read(str(made).upper()) == made
    with pytest.raises(ValueError, match="invalid UUID"):
        read("no id")
