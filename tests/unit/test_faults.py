"""Fault points do nothing unless armed, and then as often as they are told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.mesh import faults
from services.mesh.settings import MeshSettings
from tests.support.faults import armed, here


async def test_a_point_that_is_not_armed_does_nothing(tmp_path: Path) -> None:
    await faults.point("a.b")
    with here(tmp_path), armed(tmp_path, "another", "raise", times=0):
        await faults.point("a.b")
    assert list(tmp_path.iterdir()) == []


async def test_it_lets_some_pass_and_then_fires_so_often(tmp_path: Path) -> None:
    fired = []
    with here(tmp_path), armed(tmp_path, "a.b", "raise", skip=2, times=2):
        for _ in range(6):
            try:
                await faults.point("a.b")
                fired.append(False)
            except faults.FaultRaised:
                fired.append(True)
        assert faults.read(tmp_path, "a.b").passed == 6
    assert fired == [False, False, True, True, False, False]


async def test_a_point_that_never_fired_fails_its_test(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"a\.b fired 0 times, not 1"), armed(tmp_path, "a.b", "raise"):
        pass


async def test_it_hangs_until_cancelled_and_delays(tmp_path: Path) -> None:
    with here(tmp_path):
        with armed(tmp_path, "a.b", "hang"), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await faults.point("a.b")
        with armed(tmp_path, "a.b", "delay", seconds=0.01):
            before = asyncio.get_running_loop().time()
            await faults.point("a.b")
            assert asyncio.get_running_loop().time() - before >= 0.009


async def test_it_closes_the_connection_that_is_offered(tmp_path: Path) -> None:
    closed = []

    async def close() -> None:
        closed.append(True)

    with here(tmp_path), armed(tmp_path, "a.b", "close_connection", times=2):
        await faults.point("a.b", close)
        with pytest.raises(faults.FaultRaised, match="no connection"):
            await faults.point("a.b")
    assert closed == [True]


def test_production_knows_no_faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAMPAN_FAULTS", str(tmp_path))
    assert MeshSettings().faults == tmp_path
    monkeypatch.setenv("SAMPAN_ENVIRONMENT", "production")
    with pytest.raises(ValidationError, match="fault points are for tests"):
        MeshSettings()
