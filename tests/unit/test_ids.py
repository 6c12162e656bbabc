"""Ids are UUIDv7 and sort by time."""

from __future__ import annotations

from services.mesh.ids import uuid7


def test_ids_are_version_7_and_variant_rfc() -> None:
    made = [uuid7() for _ in range(200)]
    assert {one.version for one in made} == {7}
    assert {one.variant for one in made} == {"specified in RFC 4122"}
    assert len(set(made)) == 200


def test_ids_sort_by_the_millisecond_they_were_made_in() -> None:
    made = [uuid7() for _ in range(200)]
    moments = [one.int >> 80 for one in made]
    assert moments == sorted(moments)
