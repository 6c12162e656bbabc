"""Who may see whose figures."""

from __future__ import annotations

import uuid

import pytest

from services.analytics.domain import Viewer

ONE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.mark.parametrize(
    ("viewer", "of", "may"),
    [
        (Viewer(ONE, is_admin=False), ONE, True),
        (Viewer(ONE, is_admin=False), OTHER, False),
        (Viewer(ONE, is_admin=True), OTHER, True),
        (Viewer(ONE, is_admin=True), ONE, True),
    ],
)
def test_figures_are_for_oneself_and_for_admins(viewer: Viewer, of: uuid.UUID, *, may: bool) -> None:
    assert viewer.may_see(of) is may
